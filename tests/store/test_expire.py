import pytest

from tests.store.helpers import (
    ALIASES,
    claimed,
    columns,
    make_job,
    record,
    reread,
    runs,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)


def rescue(store, worker="rescuer"):
    ready, spent = store.rescue(worker=worker, lease_seconds=30, lost_attempts_max=3)
    return len(ready), spent


def test_the_jobs_of_a_dead_worker_are_rescued_without_waiting_for_their_leases(store):
    jobs = [claimed(store) for _ in range(3)]
    assert rescue(store) == (0, [])
    assert store.expire(["one"]) == 3
    assert rescue(store) == (3, [])
    for job in jobs:
        row = reread(store, job)
        assert (row.state, row.lost_attempts, row.claimed_by) == ("READY", 1, None)
        assert [run.outcome for run in runs(store, job)] == ["lost"]


def test_nothing_else_of_them_changes(store):
    job = claimed(store, workspace={"a": 1})
    before = columns(store, job)
    store.expire(["one"])
    after = columns(store, job)
    assert after.pop("lease_until") < before.pop("lease_until")
    assert after == before


def test_jobs_shown_as_stopping_too(store):
    job = claimed(store)
    store.extend([job], worker="one", lease_seconds=60, stopping=True)
    assert store.expire(["one"]) == 1
    assert rescue(store) == (1, [])


def test_several_workers_are_told_at_once_and_others_are_left_alone(store):
    one, two, other = (claimed(store, worker=name) for name in ("one", "two", "three"))
    before = columns(store, other)
    assert store.expire(["one", "two", "nobody"]) == 2
    assert rescue(store) == (2, [])
    assert {reread(store, job).state for job in (one, two)} == {"READY"}
    assert columns(store, other) == before


def test_what_it_held_before_is_left_alone(store):
    job, waiting = claimed(store), make_job(store)
    record(store, transition(job, "COMPLETE"))
    before = columns(store, job), columns(store, waiting)
    assert store.expire(["one"]) == 0
    assert (columns(store, job), columns(store, waiting)) == before


def test_a_dead_worker_that_lives_after_all_is_fenced_once_its_job_was_rescued(store):
    job = claimed(store)
    store.expire(["one"])
    rescue(store)
    assert store.extend([job], worker="one", lease_seconds=60) == {}
    assert record(store, transition(job, "COMPLETE")) == {}


def test_no_workers_are_none(store):
    claimed(store)
    assert store.expire([]) == 0
