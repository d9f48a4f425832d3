"""P5: a task ignores its time limit.

Expected: reported as stuck; its attempt is recorded as failed; the process is replaced, and others run.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("threads", [1, 2])
def test_it_costs_its_process_and_no_more(chaos, threads):
    supervisor = chaos.worker("--processes", "2", "--threads", str(threads), TIMEOUT_GRACE_SECONDS=0.5)
    job = chaos.create("deaf")
    others = [chaos.create("plain") for _ in range(10)]
    chaos.wait_state(job, "FAILED")
    assert "TaskTimeout" in chaos.value(job, "error")
    assert [outcome for _, outcome in chaos.runs(job)] == ["failed"]
    for other in others:
        chaos.wait_state(other)
    assert len(chaos.ledger.begun(job)) == 1
    chaos.wait_said(supervisor, "Worker fell")
    assert supervisor.said("Task stuck") and supervisor.log().count("Worker fell") == 1
    chaos.wait_children(supervisor, 2)
    assert not chaos.trespasses()
