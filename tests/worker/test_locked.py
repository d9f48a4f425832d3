"""A row that somebody else keeps locked, in an admin's transaction say: it costs no other job anything."""

from __future__ import annotations

import datetime

import pytest

from django_dbq import Job
from django_dbq.store import get_store
from django_dbq.worker.backlog import Backlog
from django_dbq.worker.executor import Executor
from django_dbq.worker.keeper import Keeper
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.slot import Slot
from tests.conftest import wait_until
from tests.store.helpers import locked

BRIEF = {"LEASE_SECONDS": 2, "POLL_INTERVAL_SECONDS": 0.2}


@pytest.mark.postgresql
def test_the_others_are_recorded_and_their_leases_renewed_while_it_is_locked(one_bench):
    long, wanted = one_bench.create("hold"), one_bench.create("hold_each")
    worker = one_bench.worker("--threads", "3", dbq=BRIEF)
    one_bench.wait_until_begun(long)
    wait_until(lambda: (one_bench.folder / f"began-{wanted.pk}-1").exists(), "both tasks to begin")
    one_bench.worker(dbq=BRIEF)  # Who would take over what is not renewed.
    with locked(get_store("default"), wanted):
        (one_bench.folder / "go-on-1").touch()
        wait_until(
            lambda: "Record met a lock, trying again: locked=1 " in worker.log(), "the record to be tried"
        )
        until = lease_of(long) + datetime.timedelta(seconds=2 * BRIEF["LEASE_SECONDS"])
        wait_until(lambda: lease_of(long) > until, "two leases to pass")
        one_bench.wait_for(one_bench.create("nothing"))
    (one_bench.folder / "go-on-2").touch()  # Should another worker have taken it over, after so long.
    one_bench.wait_for(wanted)
    one_bench.go_on()
    one_bench.wait_for(long)
    assert one_bench.runs(long, "outcome") == ["done", "done"]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_those_that_are_locked_while_another_is_refused_are_put_off_all_the_same():
    keeper = Keeper(
        WorkerSettings(using="default"), Executor("default", "host:1:abc"), Backlog(), [Slot()], lambda: None
    )
    store = keeper.store
    for _ in range(3):
        Job.objects.create(name="nothing")
    attempts = [
        keeper.executor.run(job)
        for job in store.claim(["default"], worker=keeper.worker, limit=3, lease_seconds=60)
    ]
    first, bad, second = attempts
    bad.transition.error = "half a text\0"
    keeper._held = {attempt.job.id: attempt.job for attempt in attempts}
    keeper._finished = list(attempts)
    with locked(store, first.job, second.job):
        keeper._record()
        assert keeper._held.keys() == {first.job.id, second.job.id}
        assert Job.objects.get(pk=bad.job.id).state == "FAILED"
    keeper._put_off_until = 0.0
    keeper._record()
    assert not keeper._held and Job.objects.filter(state="COMPLETE").count() == 2


@pytest.mark.postgresql
def test_a_worker_with_one_thread_goes_on_with_other_jobs(one_bench):
    wanted = one_bench.create("hold_each")
    worker = one_bench.worker(dbq=BRIEF)
    wait_until(lambda: (one_bench.folder / f"began-{wanted.pk}-1").exists(), "the task to begin")
    with locked(get_store("default"), wanted):
        (one_bench.folder / "go-on-1").touch()
        wait_until(lambda: "Record met a lock, trying again" in worker.log(), "the record to be tried")
        one_bench.wait_for(one_bench.create("nothing"))
        assert one_bench.state(wanted) == "PROCESSING"
    one_bench.wait_for(wanted)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_job_that_waits_in_a_worker_keeps_its_place_while_its_row_is_locked():
    backlog = Backlog()
    keeper = Keeper(
        WorkerSettings(using="default"), Executor("default", "host:1:abc"), backlog, [Slot()], lambda: None
    )
    mine, lost = (Job.objects.create(name="nothing") for _ in range(2))
    jobs = keeper.store.claim(["default"], worker=keeper.worker, limit=2, lease_seconds=60)
    Job.objects.filter(pk=lost.pk).update(claimed_by="another")
    keeper._held = {job.id: job for job in jobs}
    backlog.put(jobs)
    keeper._extend_at = 0.0
    with locked(keeper.store, mine):
        keeper._extend()
    assert keeper._held.keys() == {mine.id} and len(backlog) == 1


@pytest.mark.postgresql
def test_a_stuck_task_that_has_locked_its_own_row_does_not_keep_its_worker(one_bench):
    job = one_bench.create("too_slow_and_deaf_in_its_row")
    worker = one_bench.worker(
        "--threads", "2", dbq={"POLL_INTERVAL_SECONDS": 0.1, "TIMEOUT_GRACE_SECONDS": 0.3}
    )
    assert worker.wait() == 1, worker.log()
    assert f"Task stuck: job={job.pk}" in worker.log() and "Not given back: jobs=1" in worker.log()


def lease_of(job):
    return Job.objects.values_list("lease_until", flat=True).get(pk=job.pk)
