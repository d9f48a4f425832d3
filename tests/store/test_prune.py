import pytest

from django_dbq.models import Job, TaskRun
from django_dbq.store import base
from tests.store.helpers import (
    ALIASES,
    NOW,
    SERVERS,
    a_run,
    claimed,
    columns,
    locked,
    make_job,
    make_jobs,
    record,
    runs,
    seconds,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)

OLD = NOW - seconds(3600)


def left(store):
    return set(Job.objects.using(store.using).values_list("id", flat=True))


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED", "CANCELLED", "STOPPING"])
def test_what_is_over_and_was_created_before_is_deleted(store, state):
    # STOPPING without a lease is what a worker of the original package left behind.
    make_job(store, state=state, created=OLD)
    make_job(store, state=state, created=NOW)
    later = make_job(store, state=state, created=NOW + seconds(1))
    assert store.prune(NOW) == 2
    assert left(store) == {later.id}


@pytest.mark.parametrize("state", ["NEW", "READY", "PROCESSING", "WAITING"])
def test_what_is_not_over_stays_however_old(store, state):
    job = make_job(store, state=state, created=OLD)
    assert store.prune(NOW) == 0
    assert left(store) == {job.id}


@pytest.mark.parametrize("stopping", [True, False])
def test_a_job_that_is_held_stays(store, stopping):
    job = claimed(store, created=OLD)
    store.extend([job], worker="one", lease_seconds=60, stopping=stopping)
    before = columns(store, job)
    assert store.prune(NOW) == 0
    assert columns(store, job) == before


def test_history_goes_with_its_job_and_other_history_stays(store):
    job, other = claimed(store, created=OLD), claimed(store)
    record(
        store,
        transition(job, "COMPLETE", run=a_run(job)),
        transition(other, "COMPLETE", run=a_run(other)),
    )
    Job.objects.using(store.using).filter(pk=other.pk).update(created=NOW + seconds(1))
    assert store.prune(NOW) == 1
    assert runs(store, job) == [] and len(runs(store, other)) == 1


def test_many_are_deleted_in_bounded_batches(store, monkeypatch):
    monkeypatch.setattr(base, "PRUNE_BATCH", 10)
    made = make_jobs(store, 25, state="COMPLETE", created=OLD)
    TaskRun.objects.using(store.using).bulk_create(
        TaskRun(job=job, claim=1, position=0, attempt=1, started=OLD, finished=OLD) for job in made
    )
    assert [store._prune_batch(NOW) for _ in range(2)] == [10, 10]
    assert TaskRun.objects.using(store.using).count() == 5
    assert store.prune(NOW) == 5
    assert left(store) == set() and not TaskRun.objects.using(store.using).exists()


def test_the_oldest_go_first(store, monkeypatch):
    monkeypatch.setattr(base, "PRUNE_BATCH", 1)
    newer = make_job(store, state="FAILED", created=OLD + seconds(1))
    make_job(store, state="FAILED", created=OLD)
    assert store._prune_batch(NOW) == 1
    assert left(store) == {newer.id}


def test_nothing_to_delete_is_no_error(store):
    assert store.prune(NOW) == 0


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_jobs_that_another_holds_locked_stay_and_keep_no_one_waiting(store):
    job, _ = make_jobs(store, 2, state="COMPLETE", created=OLD)
    with locked(store, job):
        assert store.prune(NOW) == 1
    assert left(store) == {job.id}
