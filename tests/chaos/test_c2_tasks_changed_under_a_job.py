"""C2: a deploy inserts, removes, reorders or renames tasks under a job half way.

Expected: the job goes on with the list it was created with, by the name of its next task; where that
task is gone it is parked with a clear error and no attempt used, until a deploy brings the task back.
"""

import json
import signal

import pytest

from tests.chaos.workflows import HERE
from tests.conftest import wait_until


def jobs(*names):
    return {"CHAOS_JOBS": json.dumps({"letters": [f"{HERE}.{name}" for name in names]})}


@pytest.fixture
def half_way(chaos):
    """Return a job whose first task of three was done by the old code."""
    chaos.hold()
    job = chaos.create("letters")
    old = chaos.worker()
    chaos.wait_begun(job)
    old.signal(signal.SIGTERM)
    wait_until(lambda: chaos.state(job) == "STOPPING", "the old worker to stop")
    chaos.let_go()
    assert old.wait() == 0
    assert chaos.state(job) == "READY"
    return job


@pytest.mark.parametrize(
    "names",
    [("alpha", "delta", "beta", "gamma"), ("beta", "gamma"), ("gamma", "beta", "alpha")],
    ids=["inserted", "removed before", "reordered"],
)
def test_a_job_goes_on_with_its_own_list(chaos, half_way, names):
    chaos.worker(env=jobs(*names))
    chaos.wait_state(half_way)
    assert [note["task"] for note in chaos.ledger.begun(half_way)] == ["alpha", "beta", "gamma"]
    assert chaos.runs(half_way) == [(0, "done"), (1, "done"), (2, "done")]
    chaos.assert_kept()


@pytest.mark.parametrize(
    "names", [("alpha", "gamma"), ("alpha", "delta", "gamma")], ids=["removed", "renamed"]
)
def test_a_task_that_is_gone_parks_the_job_until_it_is_back(chaos, half_way, names):
    new = chaos.worker(env=jobs(*names), PARK_SECONDS=0.5)
    wait_until(lambda: new.said("Parked"), "the job to be parked")
    wait_until(lambda: chaos.state(half_way) == "READY", "the job to wait")
    assert f"{HERE}.beta" in chaos.value(half_way, "error")
    assert chaos.runs(half_way) == [(0, "done")]
    new.kill()
    chaos.worker()
    chaos.wait_state(half_way)
    assert [(note["task"], note["attempt"]) for note in chaos.ledger.begun(half_way)] == [
        ("alpha", 1),
        ("beta", 1),
        ("gamma", 1),
    ]
    chaos.assert_kept()
