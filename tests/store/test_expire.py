import pytest

from tests.store.helpers import (
    ALIASES,
    claim,
    claimed,
    columns,
    make_job,
    record,
    reread,
    runs,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)


def rescue(store):
    return store.rescue(worker="rescuer", lease_seconds=30, lost_attempts_max=3)


@pytest.mark.parametrize("stopping", [True, False])
def test_the_jobs_of_a_dead_worker_are_found_by_the_next_rescue(store, stopping):
    job = claimed(store, worker="dead")
    store.extend([job], worker="dead", lease_seconds=600, stopping=stopping)
    assert rescue(store) == (0, [])
    assert store.expire(["dead"]) == 1
    assert rescue(store) == (1, [])
    assert [run.worker for run in runs(store, job)] == ["dead"]
    assert [mine.id for mine in claim(store)] == [job.id]


def test_nothing_but_the_lease_changes(store):
    job = claimed(store, worker="dead")
    before = columns(store, job)
    store.expire(["dead"])
    after = columns(store, job)
    assert after.pop("lease_until") < before.pop("lease_until")
    assert after == before


def test_many_workers_end_at_once_and_others_are_left_alone(store):
    jobs = [claimed(store, worker=worker) for worker in ("a", "a", "b", "c")]
    before = columns(store, jobs[3])
    assert store.expire(["a", "b", "none"]) == 3
    assert columns(store, jobs[3]) == before
    assert rescue(store) == (3, [])


def test_what_a_dead_worker_holds_no_more_is_left_alone(store):
    job = claimed(store, worker="dead")
    record(store, transition(job, "COMPLETE"), worker="dead")
    foreign = make_job(store, state="PROCESSING")
    before = columns(store, job), columns(store, foreign)
    assert store.expire(["dead"]) == 0
    assert (columns(store, job), columns(store, foreign)) == before


def test_a_worker_that_was_taken_for_dead_may_still_record(store):
    job = claimed(store, worker="slow")
    store.expire(["slow"])
    assert record(store, transition(job, "COMPLETE"), worker="slow") == {job.id: "COMPLETE"}
    assert reread(store, job).lease_until is None


def test_no_workers_are_none(store):
    claimed(store)
    assert store.expire([]) == 0
