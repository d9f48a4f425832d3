import uuid

import pytest

from django_dbq.models import Job
from tests.store.helpers import (
    ALIASES,
    LEASE,
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
    together,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)
committed = pytest.mark.django_db(databases=ALIASES, transaction=True)


def take(store, *jobs, worker="one", lease_seconds=LEASE, **options):
    ids = [job.id for job in jobs]
    return store.claim_by_id(ids, worker=worker, lease_seconds=lease_seconds, **options)


def ids(jobs):
    return [job.id for job in jobs]


@pytest.mark.parametrize("state", ["NEW", "READY"])
def test_a_waiting_job_is_held_as_by_a_claim(store, state):
    job = make_job(store, state=state)
    before = clock(store)
    (mine,) = take(store, job, lease_seconds=7)
    row = reread(store, job)
    assert (row.state, row.claimed_by, row.claim, row.attempt) == ("PROCESSING", "one", 1, 1)
    assert before + seconds(7) <= row.lease_until <= clock(store) + seconds(7)
    assert before <= row.started <= clock(store) and row.modified >= before
    assert (mine.pk, mine.prior_state) == (job.pk, state)
    assert claim(store) == []


def test_it_returns_the_job_as_its_row_now_is(store):
    job = make_job(
        store, workspace={"cat": "Mog é🐈"}, plan=["a", "b"], result={"x": 1}, error="no", call="{}"
    )
    (mine,) = take(store, job)
    row = columns(store, job)
    row["plan"] = tuple(row["plan"])
    assert {name: mine.__dict__[name] for name in row} == row, "nothing is left to be read later"
    assert mine.recorded_workspace and mine._state.db == store.using and not mine._state.adding


def test_one_that_is_not_due_is_returned_as_its_row_is(store):
    job = make_job(store, run_after=clock(store) + seconds(60), staged=False)
    (mine,) = take(store, job)
    assert columns(store, job)["staged"] is mine.staged is False


@pytest.mark.parametrize("plan", [5, "app.task", {"app.task": 1}, True])
def test_a_plan_that_is_no_list_stops_no_worker(store, plan):
    job = make_job(store, plan=plan)
    assert [mine.plan for mine in take(store, job)] == [None]
    Job.objects.using(store.using).filter(pk=job.pk).update(state="READY", claimed_by=None, lease_until=None)
    assert [mine.plan for mine in claim(store)] == [None]


def test_what_it_took_can_be_recorded(store):
    (mine,) = take(store, make_job(store))
    assert record(store, transition(mine, "COMPLETE")) == {mine.id: "COMPLETE"}


def test_a_job_is_taken_before_its_time(store):
    ahead = clock(store) + seconds(3600)
    job = make_job(store, run_after=ahead, staged=False)
    (mine,) = take(store, job)
    assert mine.id == job.id and reread(store, job).run_after == ahead


def test_a_job_is_not_taken_before_its_time_where_only_due_ones_are_wanted(store):
    now = clock(store)
    late = make_job(store, run_after=now + seconds(3600), staged=False)
    due, past = make_job(store), make_job(store, run_after=now - seconds(1), staged=False)
    before = columns(store, late)
    assert set(ids(take(store, late, due, past, only_due=True))) == {due.id, past.id}
    assert columns(store, late) == before


def test_a_job_of_any_queue_is_taken_and_others_are_left(store):
    wanted, other = make_job(store, queue_name="other"), make_job(store)
    before = columns(store, other)
    assert ids(take(store, wanted)) == [wanted.id]
    assert columns(store, other) == before


@pytest.mark.parametrize("state", ["WAITING", "PROCESSING", "STOPPING", "COMPLETE", "FAILED", "CANCELLED"])
def test_a_job_that_does_not_wait_is_left_alone(store, state):
    job = make_job(store, state=state)
    before = columns(store, job)
    assert take(store, job) == []
    assert columns(store, job) == before


def test_what_one_worker_holds_no_other_takes(store):
    job = claimed(store, worker="one")
    before = columns(store, job)
    assert take(store, job, worker="two") == []
    assert columns(store, job) == before


def test_a_job_that_is_taken_again_keeps_its_first_start_and_counts_on(store):
    (mine,) = take(store, make_job(store))
    started = reread(store, mine).started
    record(store, transition(mine, attempt=1, lost_attempts=1))
    (mine,) = take(store, mine)
    row = reread(store, mine)
    assert (row.claim, row.attempt, row.lost_attempts, row.started) == (2, 2, 1, started)


def test_jobs_come_in_the_order_of_a_claim_however_they_were_named(store):
    low, high, middle = (make_job(store, priority=priority) for priority in (-1, 5, 2))
    early, late = make_jobs(store, 2, priority=2)
    assert ids(take(store, late, low, early, middle, high)) == ids([high, middle, early, late, low])


def test_unknown_and_repeated_ids_are_no_fault(store):
    job = make_job(store)
    found = store.claim_by_id([uuid.uuid4(), job.id, job.id], worker="one", lease_seconds=LEASE)
    assert ids(found) == [job.id] and reread(store, job).attempt == 1


def test_no_jobs_are_an_empty_answer(store):
    make_job(store)
    assert take(store) == []


@committed
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_row_that_another_holds_is_passed_over_without_waiting(store):
    first, second = make_jobs(store, 2)
    with locked(store, first):
        assert ids(take(store, first, second)) == [second.id]
    assert reread(store, first).state == "NEW"


@committed
def test_each_job_goes_to_one_of_many_that_ask_for_it_at_once(store):
    jobs = make_jobs(store, 20)
    answers = together(4, lambda number: ids(take(store, *jobs, worker=f"worker {number}")))
    taken = [pk for answer in answers for pk in answer]
    assert len(taken) == len(set(taken))
    for job in Job.objects.using(store.using).filter(pk__in=taken):
        assert (job.state, job.attempt, job.claim) == ("PROCESSING", 1, 1)
    left = ids(take(store, *jobs))  # Locked by one and passed over by another, it may be left.
    assert sorted(taken + left) == sorted(ids(jobs))


@committed
def test_beside_claims_each_job_goes_to_one(store):
    jobs = make_jobs(store, 20)

    def ask(number):
        if number % 2:
            return ids(claim(store, worker=f"worker {number}"))
        return ids(take(store, *reversed(jobs), worker=f"worker {number}"))

    taken = [pk for answer in together(4, ask) for pk in answer]
    assert len(taken) == len(set(taken))
    assert sorted(taken + ids(claim(store))) == sorted(ids(jobs))
