"""P3b: the module of a function call hangs when it is imported.

Expected: ended by the call's own time limit. It costs the process, as a task that ignores its limit
does; the attempt is recorded as failed, the call comes back later and less urgently, and others run.
"""

import pytest

from django_dbq import Job, calls
from tests.chaos.cluster import ALIAS

pytestmark = pytest.mark.chaos("ci")

PATH = "tests.chaos.broken.hangs.task"


@pytest.mark.parametrize("threads", [1, 2])
def test_it_costs_its_process_and_others_run(chaos, threads):
    job = Job(**calls.call_columns(PATH, (), {}, {"timeout_seconds": 0.5}), priority=5)
    job.save(using=ALIAS)
    supervisor = chaos.worker(
        "--processes",
        "2",
        "--threads",
        str(threads),
        # No task of the settings has a time limit: the call alone makes the worker look at its own.
        env={"CHAOS_HANG": "1", "CHAOS_JOBS_GONE": '["deaf"]'},
        TIMEOUT_GRACE_SECONDS=0.5,
    )
    others = [chaos.create("plain") for _ in range(10)]
    for other in others:
        chaos.wait_state(other)
    chaos.wait_said(supervisor, "Worker fell")
    assert supervisor.said(f"Task stuck: job={job.id} name={PATH} task={PATH}")
    assert chaos.runs(job) == [(0, "failed")]
    assert chaos.state(job) == "READY" and "TaskTimeout" in chaos.value(job, "error")
    assert (chaos.value(job, "priority"), chaos.value(job, "attempt")) == (4, 1)
    assert chaos.rows(
        "SELECT run_after > now() + interval '30 s' FROM django_dbq_job WHERE id = %s", [job.id]
    )[0][0]
    assert supervisor.log().count("Worker fell") == 1
    chaos.wait_children(supervisor, 2)
    assert not chaos.trespasses()
