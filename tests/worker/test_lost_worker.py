"""What becomes of the jobs of a worker that died, and of the worker."""

from __future__ import annotations

import os
import signal

import pytest

from django_dbq import Job
from django_dbq.store import get_store
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.upkeep import Upkeep
from tests.conftest import wait_until
from tests.worker.conftest import children

QUICK = {"LEASE_SECONDS": 1, "POLL_INTERVAL_SECONDS": 0.1}


def test_another_worker_takes_over_after_the_lease(bench):
    job = bench.create("hold")
    first = bench.worker(dbq=QUICK)
    bench.wait_until_begun(job)
    first.popen.kill()
    assert first.wait() == -signal.SIGKILL
    assert bench.state(job) == "PROCESSING"
    second = bench.worker(dbq=QUICK)
    wait_until(lambda: len(bench.wait_until_begun(job)) == 2, "the task began again")
    bench.go_on()
    bench.wait_for(job)
    [(lost, who), *rest] = bench.runs(job, "outcome", "worker")
    assert lost == "lost" and f":{first.pid}:" in who
    assert [(outcome, f":{second.pid}:" in who) for outcome, who in rest] == [("done", True)] * 2
    assert bench.runs(job, "attempt") == [1, 2, 1]
    job.refresh_from_db()
    assert job.error is None and job.lost_attempts == 0


def test_a_lease_is_renewed_while_a_task_runs(one_bench):
    job = one_bench.create("hold")
    one_bench.worker(dbq=QUICK)
    one_bench.wait_until_begun(job)
    first = Job.objects.get(pk=job.pk)
    one_bench.worker(dbq=QUICK)
    wait_until(
        lambda: (Job.objects.get(pk=job.pk).lease_until - first.lease_until).total_seconds() > 2,
        "the lease was renewed for longer than it lasts",
    )
    now = Job.objects.get(pk=job.pk)
    assert (now.state, now.claim, now.claimed_by) == ("PROCESSING", first.claim, first.claimed_by)
    one_bench.go_on()
    one_bench.wait_for(job)
    assert one_bench.runs(job, "outcome") == ["done", "done"]


def test_a_job_that_kills_its_workers_fails_and_its_neighbours_go_on(one_bench):
    killer = one_bench.create("kill_worker")
    neighbours = [one_bench.create("witness", {"n": n}) for n in range(20)]
    supervisor = one_bench.worker("--processes", "2", dbq={**QUICK, "LOST_ATTEMPTS_MAX": 2})
    one_bench.wait_for(killer, "FAILED")
    for job in neighbours:
        one_bench.wait_for(job)
    killer.refresh_from_db()
    assert "WorkerLost" in killer.error and killer.lost_attempts == 2
    assert set(one_bench.runs(killer, "outcome")) == {"lost"}
    assert sorted(int(n) for _, _, n in one_bench.witnesses()) == list(range(20))
    supervisor.popen.terminate()
    assert supervisor.wait() == 0, supervisor.log()


def test_a_supervisor_restarts_a_killed_worker(one_bench):
    supervisor = one_bench.worker("--processes", "2", dbq=QUICK)
    one_bench.wait_until_idle(supervisor)
    for pid in wait_until(
        lambda: children(supervisor) if len(children(supervisor)) == 2 else None, "two workers"
    ):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(children(supervisor)) == 4, "two more have started")
    assert supervisor.log().count("signal=SIGKILL") == 2
    one_bench.wait_for(one_bench.create("five"))
    supervisor.popen.terminate()
    assert supervisor.wait() == 0, supervisor.log()


def test_a_worker_that_has_run_its_share_is_replaced(one_bench):
    for n in range(10):
        one_bench.create("witness", {"n": n})
    supervisor = one_bench.worker("--processes", "2", "--max-jobs", "2", dbq=QUICK)
    wait_until(lambda: len(one_bench.witnesses()) == 10, "all jobs ran")
    assert len({pid for _, pid, _ in one_bench.witnesses()}) >= 5
    supervisor.popen.terminate()
    assert supervisor.wait() == 0, supervisor.log()


def test_a_supervisor_outlives_many_jobs_that_kill_their_workers(one_bench):
    killers = [one_bench.create("kill_worker") for _ in range(6)]
    neighbours = [one_bench.create("nothing") for _ in range(4)]
    supervisor = one_bench.worker("--processes", "2", "--burst")
    for killer in killers:
        one_bench.wait_for(killer, "FAILED")
    for neighbour in neighbours:
        one_bench.wait_for(neighbour)
    assert "keep falling" not in supervisor.log()


@pytest.mark.django_db
def test_the_log_names_what_was_rescued_first_what_was_lost_most_often(caplog):
    store = get_store("default")
    jobs = [Job.objects.create(name="five", priority=-n) for n in range(12)]
    claimed = store.claim(["default"], worker="lost", limit=12, lease_seconds=-60)
    Job.objects.filter(pk=jobs[7].pk).update(lost_attempts=1)
    Job.objects.filter(pk=jobs[9].pk).update(lost_attempts=2)
    with caplog.at_level("WARNING", "django_dbq.worker"):
        _, spent = Upkeep(store, "one", WorkerSettings(using="default")).run()
    assert len(claimed) == 12 and [job.pk for job in spent] == [jobs[9].pk]
    [line] = [text for text in caplog.messages if text.startswith("Rescued: ")]
    named = [jobs[n] for n in (9, 7, 0, 1, 2, 3, 4, 5, 6, 8)]
    assert line == "Rescued: ready=11 failed=1 worker=one jobs=" + ", ".join(
        [*(f"{job.pk} five" for job in named), "and 2 more"]
    )
