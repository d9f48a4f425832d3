"""Z3: a C call holds the interpreter's lock, so that nothing extends the lease.

Expected: the lease runs out, and it is Z1: another worker runs the task. When the call returns the task
can learn from `should_stop()` that its lease is not to be trusted, and nothing of it is recorded.
"""

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


def test_another_worker_takes_over_and_the_starved_one_is_told(chaos):
    job = chaos.create("starve", workspace={"microseconds": 5_000_000})
    starved = chaos.worker(ready=False)
    chaos.wait_begun(job)
    other = chaos.worker()
    chaos.wait_state(job)
    assert chaos.ledger.ended(job)[0]["pid"] == other.pid
    wait_until(lambda: starved.said("Lease lost, outcome dropped"), "the starved worker to find out")
    assert [note["pid"] for note in chaos.ledger.notes("told")] == [starved.pid]
    assert [note["pid"] for note in chaos.ledger.notes("post_task_hook")] == [other.pid]
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    chaos.assert_kept()
