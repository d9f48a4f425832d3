"""P4: a task leaves a broken transaction, closes its connection, leaves settings or threads behind.

Expected: its worker resets or drops the connection; the next job is unaffected.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")

# What becomes of the job itself.
LEFT = {
    "broken transaction": "FAILED",
    "open transaction": "FAILED",
    "autocommit off": "FAILED",
    "another connection": "FAILED",
    "closed": "COMPLETE",
    "closed below Django": "COMPLETE",
    "killed backend": "COMPLETE",
    "search path": "COMPLETE",
    "read only": "COMPLETE",
    "threads": "COMPLETE",
}


@pytest.mark.parametrize("how", LEFT)
def test_the_next_job_is_unaffected(chaos, how):
    worker = chaos.worker()
    spoilt = chaos.create("spoil", workspace={"how": how})
    chaos.wait_state(spoilt, LEFT[how])
    job = chaos.create("three")
    chaos.wait_state(job)
    assert {note["pid"] for note in chaos.ledger.begun()} == {worker.pid}
    assert worker.said("Task done")
    del chaos.created[str(spoilt.id)]
    assert [outcome for _, outcome in chaos.runs(spoilt)] == ["done" if LEFT[how] == "COMPLETE" else "failed"]
    assert chaos.effects(job) == 1
    assert not chaos.trespasses()
