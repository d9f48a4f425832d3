import pytest

from django_dbq.models import Job
from django_dbq.store import base
from tests.store.helpers import (
    ALIASES,
    NOW,
    SERVERS,
    claim,
    claimed,
    clock,
    columns,
    locked,
    make_job,
    make_jobs,
    record,
    reread,
    seconds,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)


def waiting(store, in_seconds, since=None, **columns):
    return make_job(store, staged=False, run_after=(since or clock(store)) + seconds(in_seconds), **columns)


def test_jobs_whose_time_has_come_are_shown_to_claims(store):
    due, ahead = waiting(store, -60), waiting(store, 60)
    assert store.stage() == 1
    assert (reread(store, due).staged, reread(store, ahead).staged) == (True, False)
    assert [job.id for job in claim(store)] == [due.id]


def test_nothing_but_staged_changes(store):
    job = waiting(store, -60)
    before = columns(store, job)
    store.stage()
    assert columns(store, job) == {**before, "staged": True}


def test_what_is_staged_is_not_counted_again(store):
    waiting(store, -60)
    assert (store.stage(), store.stage()) == (1, 0)


def test_what_is_due_is_told_by_the_time_that_the_caller_gives(store):
    waiting(store, 0, since=NOW)
    waiting(store, 1, since=NOW)
    assert store.stage(now=NOW - seconds(1)) == 0
    assert store.stage(now=NOW) == 1
    assert store.stage(now=NOW + seconds(1)) == 1


def test_a_delayed_job_comes_back_when_its_time_has_come(store):
    job = claimed(store, now=NOW)
    record(store, transition(job, delay_seconds=10), now=NOW)
    assert store.stage(now=NOW + seconds(9)) == 0
    assert store.stage(now=NOW + seconds(10)) == 1
    assert [mine.id for mine in claim(store, now=NOW + seconds(10))] == [job.id]


def test_a_batch_is_bounded_and_takes_the_longest_due_first(store):
    count = base.STAGE_BATCH + 3
    last = waiting(store, -30)
    make_jobs(store, count - 1, staged=False, run_after=clock(store) - seconds(60))
    assert store.stage() == base.STAGE_BATCH
    assert not reread(store, last).staged
    assert store.stage() == 3
    assert not Job.objects.using(store.using).filter(staged=False).exists()


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_jobs_that_another_holds_locked_do_not_keep_the_others_waiting(store):
    job, other = waiting(store, -60), waiting(store, -30)
    with locked(store, job):
        assert store.stage() == 1
    assert reread(store, other).staged and not reread(store, job).staged
    assert store.stage() == 1
