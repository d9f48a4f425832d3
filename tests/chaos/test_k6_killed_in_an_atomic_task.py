"""K6: killed with -9 in an atomic task.

Expected: the task's writes are absent; retried; its effects are there exactly once.
"""

import os
import signal

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


def test_its_writes_are_absent_and_then_there_once(chaos):
    chaos.hold()
    job = chaos.create("atomic")
    worker = chaos.worker()
    wait_until(lambda: chaos.ledger.notes("written", job), "the write")
    worker.kill()
    wait_until(lambda: not chaos.cluster.sessions(chaos.name), "its backends to end")
    assert chaos.effects(job) == 0
    chaos.let_go()
    chaos.worker()
    chaos.wait_state(job)
    assert chaos.effects(job) == 1
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    chaos.assert_kept()


def test_between_two_plain_tasks_and_under_a_supervisor(chaos):
    chaos.hold(1)
    job = chaos.create("three")
    chaos.worker("--processes", "2", LEASE_SECONDS=60)
    wait_until(lambda: chaos.ledger.notes("written", job), "the write")
    os.kill(chaos.ledger.begun(job, 1)[0]["pid"], signal.SIGKILL)
    chaos.let_go(1)
    chaos.wait_state(job)
    assert [len(chaos.ledger.begun(job, position)) for position in range(3)] == [1, 2, 1]
    assert chaos.runs(job) == [(0, "done"), (1, "lost"), (1, "done"), (2, "done")]
    chaos.assert_kept()
