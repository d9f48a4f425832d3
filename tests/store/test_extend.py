import pytest

from tests.store.helpers import (
    ALIASES,
    NOW,
    SERVERS,
    claim,
    claimed,
    clock,
    columns,
    locked,
    record,
    reread,
    seconds,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)


def extend(store, *jobs, worker="one", lease_seconds=600, **options):
    return store.extend(jobs, worker=worker, lease_seconds=lease_seconds, **options)


def test_the_leases_of_all_held_jobs_are_renewed_by_the_clock_of_the_database(store):
    jobs = [claimed(store) for _ in range(3)]
    before = clock(store)
    assert extend(store, *jobs, lease_seconds=600) == dict.fromkeys((job.id for job in jobs), False)
    for job in jobs:
        assert before + seconds(600) <= reread(store, job).lease_until <= clock(store) + seconds(600)


def test_nothing_but_the_lease_changes(store):
    job = claimed(store)
    before = columns(store, job)
    extend(store, job)
    after = columns(store, job)
    assert after.pop("lease_until") > before.pop("lease_until")
    assert after == before


def test_a_stopping_worker_shows_its_jobs_as_stopping(store):
    job = claimed(store)
    assert extend(store, job, stopping=True) == {job.id: False}
    assert reread(store, job).state == "STOPPING"
    extend(store, job)
    assert reread(store, job).state == "STOPPING"
    assert record(store, transition(job, "COMPLETE")) == {job.id: "COMPLETE"}


def test_a_claim_that_has_moved_on_is_not_extended(store):
    job, other = claimed(store), claimed(store)
    store.release([job], worker="one")
    (mine,) = claim(store)
    before = columns(store, job)
    assert extend(store, job, other, stopping=True) == {other.id: False}
    assert columns(store, job) == before
    assert mine.claim == job.claim + 1


@pytest.mark.parametrize("stopping", [True, False])
def test_another_worker_extends_nothing(store, stopping):
    job = claimed(store, worker="one")
    before = columns(store, job)
    assert extend(store, job, worker="two", stopping=stopping) == {}
    assert columns(store, job) == before


def test_a_job_that_is_held_no_more_is_not_extended(store):
    job = claimed(store)
    record(store, transition(job, "COMPLETE"))
    assert extend(store, job, stopping=True) == {}
    assert reread(store, job).state == "COMPLETE"


def test_a_lease_that_ran_out_but_was_not_taken_is_renewed(store):
    job = claimed(store, now=clock(store) - seconds(3600))
    assert extend(store, job) == {job.id: False}
    assert reread(store, job).lease_until > clock(store)


def test_the_answer_tells_which_jobs_are_to_be_cancelled(store):
    job, other = claimed(store), claimed(store)
    store.cancel([job.id])
    assert extend(store, job, other) == {job.id: True, other.id: False}


def test_no_jobs_are_an_empty_answer(store):
    assert extend(store) == {}


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_job_that_its_own_task_has_locked_does_not_keep_the_others_waiting(store):
    job, other = claimed(store), claimed(store)
    before = columns(store, job)
    with locked(store, job):
        assert extend(store, job, other) == {other.id: False}
    assert columns(store, job) == before
    assert extend(store, job) == {job.id: False}


def test_jobs_claimed_at_a_given_time_are_extended_from_now(store):
    job = claimed(store, now=NOW)
    extend(store, job, lease_seconds=1)
    assert reread(store, job).lease_until <= clock(store) + seconds(1)
