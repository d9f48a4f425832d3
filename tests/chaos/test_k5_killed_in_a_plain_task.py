"""K5: the worker is killed with -9 in a plain task.

Expected: retried by another worker within the lease and a poll; the task begins twice and is recorded
once; the history says "lost".
"""

import os
import signal
import time

import pytest

from tests.chaos.harness import POLL_SECONDS


def test_a_task_whose_worker_is_killed_begins_again_and_is_recorded_once(chaos):
    chaos.hold()
    job = chaos.create("plain")
    first = chaos.worker()
    [begun] = chaos.wait_begun(job)
    second = chaos.worker()
    first.kill()
    chaos.let_go()
    chaos.wait_state(job)
    assert [note["pid"] for note in chaos.ledger.begun(job)] == [begun["pid"], second.pid]
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    [(error, attempt)] = chaos.rows("SELECT error, attempt FROM django_dbq_taskrun WHERE outcome = 'lost'")
    assert "WorkerLost" in error and attempt == 1
    chaos.assert_kept()


def test_a_job_goes_on_at_its_second_task_within_the_lease_and_a_poll(chaos):
    chaos.hold(1)
    job = chaos.create("plain_three")
    first = chaos.worker(LEASE_SECONDS=5)
    chaos.wait_begun(job, position=1)
    chaos.worker(LEASE_SECONDS=5)
    first.kill()
    killed = time.monotonic()
    chaos.let_go(1)
    again = chaos.wait_begun(job, times=2, position=1)[1]
    assert again["at"] - killed < 5 + POLL_SECONDS + 1
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job, 0)) == 1
    assert chaos.runs(job) == [(0, "done"), (1, "lost"), (1, "done"), (2, "done")]
    chaos.assert_kept()


def test_under_a_supervisor_that_lives_it_goes_on_at_once(chaos):
    chaos.hold(1)
    supervisor = chaos.worker("--processes", "2", LEASE_SECONDS=60)
    job = chaos.create("plain_three")
    [begun] = chaos.wait_begun(job, position=1)
    os.kill(begun["pid"], signal.SIGKILL)
    chaos.let_go(1)
    chaos.wait_begun(job, times=2, position=1)
    chaos.wait_state(job)
    assert supervisor.alive()
    assert len(chaos.ledger.begun(job, 0)) == 1
    assert chaos.runs(job) == [(0, "done"), (1, "lost"), (1, "done"), (2, "done")]
    chaos.assert_kept()


@pytest.mark.chaos("ci")
def test_with_the_default_settings_too(chaos):
    chaos.hold(1)
    job = chaos.create("plain_three")
    settings = {"LEASE_SECONDS": 30, "POLL_INTERVAL_SECONDS": 1}
    first = chaos.worker(**settings)
    chaos.wait_begun(job, position=1)
    chaos.worker(**settings)
    first.kill()
    killed = time.monotonic()
    chaos.let_go(1)
    again = chaos.wait_begun(job, times=2, position=1, seconds=60)[1]
    assert again["at"] - killed < 30 + 1 + 1
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job, 0)) == 1
    chaos.assert_kept()
