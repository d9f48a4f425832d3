import datetime

import pytest
from django.db import connections
from django.db.models import JSONField, Value
from django.db.models.signals import post_init
from django.utils import timezone
from freezegun import freeze_time

from django_dbq.models import Job
from tests.store.helpers import (
    ALIASES,
    LEASE,
    NOW,
    SERVERS,
    claim,
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


def ids(jobs):
    return [job.id for job in jobs]


# What a claim writes.


def test_a_claimed_job_is_held_by_its_worker_until_the_lease_ends(store):
    job = make_job(store)
    before = clock(store)
    (mine,) = claim(store, worker="one", lease_seconds=7)
    row = reread(store, job)
    assert (row.state, row.claimed_by, row.claim, row.attempt) == ("PROCESSING", "one", 1, 1)
    assert before + seconds(7) <= row.lease_until <= clock(store) + seconds(7)
    assert before <= row.started <= clock(store) and row.modified >= before
    assert row.finished is None
    assert mine.pk == job.pk


def test_a_claim_returns_the_job_as_its_row_now_is(store):
    make_job(
        store, workspace={"cat": "Mog é🐈", "list": [1, None]}, plan=["a", "b"], result={"x": 1}, error="no"
    )
    (job,) = claim(store)
    row = columns(store, job)
    row["plan"] = tuple(row["plan"])
    assert {name: job.__dict__[name] for name in row} == row
    assert job.workspace == {"cat": "Mog é🐈", "list": [1, None]}
    assert job._state.db == store.using and not job._state.adding


@pytest.mark.parametrize("queue_names", [["default"], ["other", "default"]])
def test_of_many_each_is_returned_as_its_row_now_is_whether_it_began_before_or_not(store, queue_names):
    make_jobs(store, 2)
    make_job(store, started=NOW)
    make_job(store, started=NOW + seconds(1))
    jobs = claim(store, *queue_names)
    assert len(jobs) == 4
    for job in jobs:
        row = columns(store, job)
        assert {name: job.__dict__[name] for name in row} == {**row, "plan": job.plan}
    assert len({job.started for job in jobs}) == 3 and len({job.modified for job in jobs}) == 1


@pytest.mark.postgresql
@pytest.mark.parametrize("store", ["default"], indirect=True)
def test_what_a_trigger_keeps_from_being_claimed_does_not_keep_the_others(store):
    kept, *others = make_jobs(store, 3)
    with connections[store.using].cursor() as cursor:
        cursor.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        cursor.execute(
            "CREATE TRIGGER keep BEFORE UPDATE ON django_dbq_job FOR EACH ROW"
            f" WHEN (OLD.id = '{kept.id}') EXECUTE FUNCTION keep()"
        )
    before = clock(store)
    jobs = claim(store)
    assert ids(jobs) == ids(others)
    assert all(before <= job.modified == job.started <= clock(store) for job in jobs)


@pytest.mark.parametrize("state", ["NEW", "READY"])
def test_a_claim_tells_what_the_job_was_before(store, state):
    make_job(store, state=state)
    assert claim(store)[0].prior_state == state


def test_every_claim_counts_the_claim_and_the_attempt(store):
    job = make_job(store)
    for number in (1, 2, 3):
        (mine,) = claim(store)
        assert (mine.claim, mine.attempt) == (number, number)
        assert record(store, transition(mine, attempt=mine.attempt)) == {job.id: "READY"}


def test_a_job_starts_once(store):
    make_job(store, started=NOW, finished=NOW)
    (mine,) = claim(store)
    assert (mine.started, mine.finished) == (NOW, None)


@pytest.mark.parametrize("nothing", [None, Value(None, JSONField())], ids=["NULL", "null"])
def test_a_workspace_that_was_never_set_is_empty(store, nothing):
    job = make_job(store)
    Job.objects.using(store.using).filter(pk=job.pk).update(workspace=nothing)
    assert claim(store)[0].workspace == {}


def test_the_recorded_workspace_is_not_the_object_that_the_task_changes(store):
    make_job(store, workspace={"list": [1]})
    (mine,) = claim(store)
    mine.workspace["list"].append(2)
    assert mine.recorded_workspace is not None and "2" not in mine.recorded_workspace


# Order.


def test_the_most_urgent_comes_first_then_the_longest_due_then_the_smallest_id(store):
    past = timezone.now() - seconds(3600)
    in_order = [
        {"priority": 5, "created": past},
        {"priority": 5, "created": past + seconds(10), "run_after": past + seconds(1)},
        {"priority": 5, "created": past + seconds(2)},
        {"priority": 5, "created": past + seconds(2), "run_after": past + seconds(3)},
        {"priority": 0, "created": past - seconds(9)},
        {"priority": 0, "created": past - seconds(9)},
        {"priority": -3, "created": past - seconds(99)},
    ]
    # Created in another order, but for the two that differ by their id alone.
    made = {index: make_job(store, **in_order[index]) for index in (3, 1, 6, 4, 5, 0, 2)}
    expected = [made[index].id for index in range(7)]
    for limit in (2, 3, 100):
        assert ids(claim(store, limit=limit)) == expected[:limit]
        del expected[:limit]


def test_several_queues_are_served_by_priority_across_them(store):
    a_low, b_high, c_other = (
        make_job(store, queue_name="a", priority=1),
        make_job(store, queue_name="b", priority=2),
        make_job(store, queue_name="c", priority=9),
    )
    a_high = make_job(store, queue_name="a", priority=2)
    assert ids(claim(store, "a", "b", limit=2)) == ids([b_high, a_high])
    assert ids(claim(store, "a", "b", limit=2)) == ids([a_low])
    assert reread(store, c_other).state == "NEW"


def test_the_order_of_the_answer_is_the_order_of_the_claim(store):
    jobs = [Job(name="five", priority=index * 7919 % 400) for index in range(400)]
    Job.objects.using(store.using).bulk_create(jobs)
    if connections[store.using].vendor == "postgresql":
        # What the planner then knows makes it join the claimed rows in an order of its own.
        with connections[store.using].cursor() as cursor:
            cursor.execute("ANALYZE django_dbq_job")
    for last in (300, 200, 100, 0):
        assert [job.priority for job in claim(store, limit=100)] == [*range(last + 99, last - 1, -1)]


def test_a_queue_that_is_named_twice_is_served_once(store):
    made = make_jobs(store, 3)
    assert ids(claim(store, "default", "default", limit=2)) == ids(made[:2])


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_jobs_are_claimed_than_asked_for(store, limit):
    made = make_jobs(store, 2, queue_name="a") + make_jobs(store, 2, queue_name="b")
    assert ids(claim(store, "a", "b", limit=limit)) == ids(made[:limit])
    assert Job.objects.using(store.using).filter(state="PROCESSING").count() == min(limit, 4)


def test_no_jobs_are_an_empty_answer(store):
    make_job(store, queue_name="other")
    assert claim(store) == []
    assert claim(store, "there is none") == []


# What is not claimed.


@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING", "WAITING", "COMPLETE", "FAILED", "CANCELLED"])
def test_only_new_and_ready_jobs_are_claimed(store, state):
    job = make_job(store, state=state)
    before = columns(store, job)
    assert claim(store) == []
    assert columns(store, job) == before


def test_a_job_that_is_held_is_not_claimed_again(store):
    make_job(store)
    assert len(claim(store, worker="one")) == 1
    assert claim(store, worker="one") == [] == claim(store, worker="two")


def test_a_future_job_is_not_claimed_even_when_it_is_staged(store):
    # As a worker of the original package leaves it.
    make_job(store, run_after=clock(store) + seconds(60), staged=True)
    due = make_job(store, run_after=clock(store) - seconds(60), staged=True)
    assert ids(claim(store)) == [due.id]


def test_a_job_that_is_not_staged_is_not_claimed(store):
    make_job(store, run_after=clock(store) - seconds(60), staged=False)
    assert claim(store) == []


# Time.


def test_a_claim_takes_the_time_that_its_caller_gives(store):
    early, late = NOW - seconds(1), NOW + seconds(1)
    due = make_job(store, run_after=early, staged=True)
    make_job(store, run_after=late, staged=True)
    (mine,) = claim(store, now=NOW, lease_seconds=LEASE)
    assert mine.id == due.id
    row = reread(store, due)
    assert (row.started, row.modified, row.lease_until) == (NOW, NOW, NOW + seconds(LEASE))


@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_claim_goes_by_the_clock_of_the_database(store):
    job = make_job(store, run_after=datetime.datetime(2010, 1, 1, tzinfo=datetime.UTC), staged=True)
    with freeze_time("2001-01-01"):
        claim(store)
    row = reread(store, job)
    assert row.state == "PROCESSING"
    assert abs(row.lease_until - seconds(LEASE) - clock(store)) < seconds(20)


# Several workers.


@committed
@pytest.mark.parametrize("store", SERVERS, indirect=True)
@pytest.mark.parametrize("limit", [1, 2, 10])
def test_jobs_that_another_holds_locked_are_skipped(store, limit):
    first, second, *rest = make_jobs(store, 6)
    with locked(store, first, second):
        assert ids(claim(store, limit=limit)) == ids(rest[:limit])
    assert reread(store, first).state == "NEW"
    assert ids(claim(store)) == ids([first, second, *rest[limit:]])


@committed
def test_workers_that_claim_at_once_share_the_jobs(store):
    made = make_jobs(store, 60)

    def take_all(number):
        mine = []
        while jobs := claim(store, worker=f"worker-{number}", limit=3):
            mine += ids(jobs)
        return mine

    found = together(4, take_all)
    assert sorted(pk for mine in found for pk in mine) == sorted(ids(made))
    rows = Job.objects.using(store.using)
    assert {(job.claim, job.attempt) for job in rows.all()} == {(1, 1)}
    for number, mine in enumerate(found):
        assert set(ids(rows.filter(claimed_by=f"worker-{number}"))) == set(mine)


@committed
def test_workers_that_claim_at_once_are_not_sent_away_while_jobs_wait(store):
    make_jobs(store, 4)
    # Each takes one: nobody's answer is empty because another was looking at the same job.
    found = together(4, lambda number: claim(store, worker=f"worker-{number}", limit=1))
    assert [len(mine) for mine in found] == [1, 1, 1, 1]


def test_a_claimed_job_is_the_one_that_the_orm_reads(store):
    make_job(store, workspace={"a": 1})
    (claimed,) = claim(store)
    read = Job.objects.using(store.using).get(pk=claimed.pk)
    fields = [field.attname for field in Job._meta.concrete_fields]
    # The plan of a claimed job is never changed, so that a tuple will do.
    assert {name: getattr(claimed, name) for name in fields} == {
        name: getattr(read, name) for name in fields
    } | {"plan": claimed.plan}
    assert (claimed._state.adding, claimed._state.db) == (read._state.adding, read._state.db)


def test_receivers_of_post_init_see_the_jobs_that_are_claimed(store):
    make_job(store, workspace={"a": 1})
    seen = []

    def receive(instance, **kwargs):
        seen.append(instance.pk)
        assert not instance.get_deferred_fields()

    post_init.connect(receive, sender=Job)
    try:
        (claimed,) = claim(store)
    finally:
        post_init.disconnect(receive, sender=Job)
    assert seen == [claimed.pk]


def claim_unread(store, limit):
    return store.claim_unread(["default"], worker="one", limit=limit, lease_seconds=LEASE)


def test_a_claim_can_be_read_later(store):
    jobs = make_jobs(store, 3)
    batch = claim_unread(store, 2)
    assert batch.size == 2 and [reread(store, job).state for job in jobs] == ["PROCESSING"] * 2 + ["NEW"]
    read = batch.read()
    assert ids(read) == ids(jobs[:2]) and {job.claimed_by for job in read} == {"one"}
    assert claim_unread(store, 9).size == 1 and claim_unread(store, 9).read() == []


def test_a_claim_is_read_at_once_where_the_making_of_instances_is_heard(store):
    """Who hears may use the database: only the keeper's thread tries again after an outage."""
    make_job(store)
    seen = []

    def receive(instance, **kwargs):
        seen.append(instance.pk)

    post_init.connect(receive, sender=Job)
    try:
        batch = claim_unread(store, 1)
        assert len(seen) == 1
    finally:
        post_init.disconnect(receive, sender=Job)
    assert ids(batch.read()) == seen
