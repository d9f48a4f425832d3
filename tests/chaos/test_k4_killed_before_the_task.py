"""K4: killed after the claim, before the task: here in the pre-task hook.

Expected: retried; the task ran no time before.
"""

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


def test_the_task_begins_once(chaos):
    chaos.hold("hook")
    job = chaos.create("hooked")
    worker = chaos.worker()
    wait_until(lambda: chaos.ledger.notes("pre_task_hook"), "the hook")
    worker.kill()
    chaos.let_go("hook")
    other = chaos.worker()
    chaos.wait_state(job)
    assert [(note["pid"], note["attempt"]) for note in chaos.ledger.begun(job)] == [(other.pid, 2)]
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    chaos.assert_kept()
