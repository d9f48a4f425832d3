"""Job.cancel(), Job.retry() and job.should_stop() as a project sees them."""

from __future__ import annotations

import signal

import pytest

from django_dbq import Job, TaskRun
from django_dbq.testing import run_jobs
from tests.conftest import wait_until
from tests.store.helpers import locked
from tests.worker.conftest import ASLEEP, Bench

HERE = f"{__name__}."
# Leases are renewed three times a second, and nothing is polled for.
HEARTBEATS = {"LEASE_SECONDS": 1, "POLL_INTERVAL_SECONDS": 600}


@pytest.fixture
def bench(manage, tmp_path, transactional_db):
    return Bench(manage, "default", tmp_path)


def count(job):
    job.workspace["count"] = job.workspace.get("count", 0) + 1


def fragile(job):
    if not job.workspace.get("mended"):
        raise ValueError("broken")


@pytest.fixture
def workflows(settings, db):
    settings.JOBS = {
        "fragile": [f"{HERE}count", f"{HERE}fragile"],
        "counts": [f"{HERE}count", f"{HERE}count"],
    }


def reread(job):
    return Job.objects.get(pk=job.pk)


def told(bench, job):
    return (bench.folder / f"told-{job.pk}").exists()


# Cancelling.


def test_a_waiting_job_is_cancelled_now_and_never_runs(workflows):
    job = Job.objects.create(name="counts")
    assert job.cancel() is True
    assert job.state == reread(job).state == Job.STATES.CANCELLED
    assert reread(job).finished is not None
    assert run_jobs() == 0 and reread(job).workspace == {}


def test_a_job_that_has_finished_is_not_cancelled(workflows):
    job = Job.objects.create(name="counts")
    run_jobs()
    assert reread(job).cancel() is False
    assert job.cancel() is False, "whatever the instance believes"
    assert reread(job).state == Job.STATES.COMPLETE


@pytest.mark.parametrize("name", ["until_told", "until_told_atomic"])
def test_a_running_job_is_told_at_the_next_heartbeat_and_cancelled_when_its_task_ends(bench, name):
    job = bench.create(name)
    worker = bench.worker(dbq=HEARTBEATS)
    bench.wait_until_begun(job)
    assert job.cancel() is True and job.state == "PROCESSING"
    bench.wait_for(job, "CANCELLED")
    row = reread(job)
    # What the task did is recorded, and the next one does not run.
    assert row.workspace["told"] is True and "count" not in row.workspace
    assert (row.next_task, row.claimed_by, row.cancel_requested) == ("tests.workflows.count", None, False)
    assert row.finished is not None and bench.runs(job, "outcome") == ["done"]
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()
    assert reread(job).state == "CANCELLED"


@pytest.mark.parametrize("name", ["until_told_then_witness", "until_told_then_witness_atomic"])
def test_a_worker_that_would_have_gone_on_with_a_cancelled_job_does_not(bench, name):
    job = bench.create(name)
    # Every task counts as short: the job would stay with its worker.
    worker = bench.worker(dbq={**HEARTBEATS, "BACKLOG_SECONDS": 60})
    bench.wait_until_begun(job)
    job.cancel()
    bench.wait_for(job, "CANCELLED")
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()
    assert bench.witnesses() == [] and "Lease lost" not in worker.log()


def test_a_job_whose_last_task_ends_well_is_complete_all_the_same(bench):
    job = bench.create("until_told_last")
    bench.worker(dbq=HEARTBEATS)
    bench.wait_until_begun(job)
    job.cancel()
    bench.wait_for(job, "COMPLETE")
    assert not reread(job).cancel_requested


def test_a_cancelled_job_does_not_stop_its_neighbours(bench):
    job, other = bench.create("until_told"), bench.create("hold")
    bench.worker("--threads", "2", dbq=HEARTBEATS)
    bench.wait_until_begun(job, other)
    job.cancel()
    bench.wait_for(job, "CANCELLED")
    assert bench.state(other) == "PROCESSING"
    bench.go_on()
    bench.wait_for(other)


def test_a_cancel_that_is_rolled_back_was_never_asked_for(bench):
    from django.db import transaction

    job = bench.create("hold")
    bench.worker(dbq={**HEARTBEATS, "LEASE_SECONDS": 3})
    bench.wait_until_begun(job)
    with transaction.atomic():
        assert job.cancel() is True
        transaction.set_rollback(True)
    bench.go_on()
    bench.wait_for(job, "COMPLETE")


def test_a_job_that_is_deleted_while_it_runs_leaves_nothing_behind(bench):
    job, other = bench.create("hold"), bench.create("nothing")
    worker = bench.worker(dbq=HEARTBEATS)
    bench.wait_until_begun(job)
    Job.objects.get(pk=job.pk).delete()
    bench.go_on()
    bench.wait_for(other)
    wait_until(lambda: "Lease lost" in worker.log(), "the worker has noticed")
    assert not TaskRun.objects.filter(job_id=job.pk).exists()
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()


# What a running task is told.


@pytest.mark.parametrize("way", [[], ["--threads", "2"], ["--processes", "2"]])
def test_a_task_is_told_at_once_that_its_worker_was_asked_to_exit(bench, way):
    job = bench.create("until_told")
    worker = bench.worker(*way, dbq=ASLEEP)
    bench.wait_until_begun(job)
    worker.popen.send_signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.log()
    row = reread(job)
    assert row.workspace["told"] is True
    assert (row.state, row.next_task, row.attempt) == ("READY", "tests.workflows.count", 0)


@pytest.mark.postgresql
def test_a_task_is_told_when_its_lease_could_not_be_renewed_and_its_outcome_is_kept(bench):
    from django_dbq.store import get_store

    job = bench.create("until_told")
    bench.worker(dbq=HEARTBEATS)
    bench.wait_until_begun(job)
    with locked(get_store("default"), job):
        wait_until(lambda: told(bench, job), "the task was told")
        assert not reread(job).cancel_requested
    # Somebody had the row locked, nobody has taken the job.
    bench.wait_for(job)
    assert bench.runs(job, "outcome") == ["done", "done"]


def test_a_task_that_nobody_wants_to_stop_is_not_told(bench):
    job = bench.create("until_told")
    bench.worker(dbq=HEARTBEATS)
    bench.wait_until_begun(job)
    first = reread(job)
    wait_until(
        lambda: (reread(job).lease_until - first.lease_until).total_seconds() > 1.5,
        "the lease was renewed for longer than it lasts",
    )
    assert not told(bench, job)
    job.cancel()
    bench.wait_for(job, "CANCELLED")


def test_outside_a_worker_a_job_need_not_stop(workflows):
    assert Job.objects.create(name="counts").should_stop() is False


# Retrying.


def test_a_failed_job_runs_again_from_the_task_that_failed(workflows):
    job = Job.objects.create(name="fragile")
    run_jobs()
    job = reread(job)
    assert (job.state, job.error) == (Job.STATES.FAILED, "ValueError: broken")
    job.workspace["mended"] = True
    job.save()
    assert job.retry() is True
    assert (job.state, job.next_task, job.attempt) == ("READY", f"{HERE}fragile", 0), "the instance knows"
    assert job.finished is None
    assert run_jobs() == 1
    job = reread(job)
    assert (job.state, job.error) == (Job.STATES.COMPLETE, None)
    assert job.workspace == {"count": 1, "mended": True}, "the first task has not run again"
    assert [run.outcome for run in job.runs.order_by("claim")] == ["done", "failed", "done"]


def test_a_job_may_be_started_over(workflows):
    job = Job.objects.create(name="fragile", workspace={"mended": True})
    run_jobs()
    job = reread(job)
    assert job.retry(from_start=True) is True and job.next_task == f"{HERE}count"
    run_jobs()
    assert reread(job).workspace == {"count": 2, "mended": True}


def test_a_complete_job_starts_over(workflows):
    job = Job.objects.create(name="counts")
    run_jobs()
    assert reread(job).retry() is True
    run_jobs()
    assert reread(job).workspace == {"count": 4}


def test_a_job_that_has_not_finished_is_not_retried(workflows):
    job = Job.objects.create(name="counts")
    assert job.retry() is False and job.state == "NEW"
    run_jobs()
    assert reread(job).workspace == {"count": 2}


def test_a_cancelled_job_that_is_retried_goes_on_where_it_was_and_is_not_cancelled_again(bench):
    job = bench.create("until_told")
    bench.worker(dbq=HEARTBEATS)
    bench.wait_until_begun(job)
    job.cancel()
    bench.wait_for(job, "CANCELLED")
    assert job.retry() is True
    assert bench.worker("--burst").wait() == 0
    bench.wait_for(job, "COMPLETE")
    assert reread(job).workspace["count"] == 1 and bench.runs(job, "outcome") == ["done", "done"]


@pytest.mark.postgresql
def test_a_sleeping_worker_is_told_of_a_retried_job(bench):
    worker = bench.worker(dbq=ASLEEP)
    bench.wait_until_idle(worker)
    job = bench.jobs(name="nothing").get()
    assert job.retry() is True
    bench.wait_for(job)
    assert len(bench.runs(job, "outcome")) == 2
