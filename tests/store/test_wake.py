import json

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_dbq.models import Group, Job
from django_dbq.models.group import ENDED_STATES, UNENDED_STATES
from django_dbq.store import groups
from tests.store.helpers import (
    ALIASES,
    LEASE,
    SERVERS,
    blank_table,
    claim,
    clock,
    columns,
    locked,
    make_job,
    make_jobs,
    reread,
    seconds,
    together,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)


def a_group(store, *states, reference="x"):
    """Create a group with jobs in these states and a final one; return it, the final one, and them."""
    group = Group.objects.using(store.using).create(reference=reference)
    jobs = [make_job(store, state=state, group=group) for state in states]
    final = make_job(store)
    group.on_completion(final)
    return group, final, jobs


def state(store, job):
    return reread(store, job).state


# What is woken.


@pytest.mark.parametrize("ended", [["COMPLETE"], ["CANCELLED"], ["COMPLETE", "CANCELLED"] * 3, []])
def test_a_final_job_is_due_once_the_others_have_ended(store, ended):
    _, final, _ = a_group(store, *ended)
    assert (state(store, final), claim(store)) == ("WAITING", [])
    assert store.wake() == 1
    assert [job.id for job in claim(store)] == [final.id]


@pytest.mark.parametrize("unended", UNENDED_STATES)
def test_a_job_that_has_not_ended_keeps_it_waiting(store, unended):
    _, final, _ = a_group(store, "COMPLETE", unended, "CANCELLED")
    assert store.wake() == 0
    assert state(store, final) == "WAITING"


def test_every_state_is_one_that_has_ended_or_one_that_has_not():
    assert {*ENDED_STATES, *UNENDED_STATES} == {*Job.STATES.values}


def test_nothing_but_the_state_changes(store):
    _, final, [other] = a_group(store, "COMPLETE")
    before, before_of_other = columns(store, final), columns(store, other)
    store.wake()
    after = columns(store, final)
    assert after.pop("modified") >= before.pop("modified")
    assert after == {**before, "state": "READY"}
    assert columns(store, other) == before_of_other


def test_what_is_awake_is_not_counted_again(store):
    a_group(store, "COMPLETE")
    assert (store.wake(), store.wake()) == (1, 0)


def test_each_group_waits_for_its_own_jobs(store):
    _, done, _ = a_group(store, "COMPLETE", reference="done")
    _, not_done, _ = a_group(store, "NEW", reference="not done")
    assert store.wake() == 1
    assert (state(store, done), state(store, not_done)) == ("READY", "WAITING")


def test_only_the_groups_that_the_caller_names_are_looked_at(store):
    one, of_one, _ = a_group(store, "COMPLETE", reference="one")
    two, of_two, _ = a_group(store, "COMPLETE", reference="two")
    assert store.wake([]) == 0
    assert store.wake([two.pk]) == 1
    assert (state(store, of_one), state(store, of_two)) == ("WAITING", "READY")
    assert store.wake([one.pk, two.pk]) == 1


def test_a_final_job_with_a_time_is_due_at_that_time(store):
    group, _, _ = a_group(store, "COMPLETE", reference="other")
    group = Group.objects.using(store.using).create(reference="x")
    final = make_job(store, staged=False, run_after=clock(store) + seconds(60))
    group.on_completion(final)
    assert store.wake([group.pk]) == 1
    assert claim(store) == []
    later = clock(store) + seconds(61)
    assert store.stage(now=later) == 1
    assert [job.id for job in claim(store, now=later)] == [final.id]


@pytest.mark.parametrize("end", ["COMPLETE", "FAILED", "CANCELLED", "PROCESSING"])
def test_a_final_job_that_does_not_wait_is_left_alone(store, end):
    _, final, _ = a_group(store, "COMPLETE")
    Job.objects.using(store.using).filter(pk=final.pk).update(state=end)
    before = columns(store, final)
    assert store.wake() == 0
    assert columns(store, final) == before


def test_a_waiting_job_that_ends_no_group_goes_on_waiting(store):
    job = make_job(store, state="WAITING")
    assert store.wake() == 0
    assert state(store, job) == "WAITING"


def test_groups_that_are_not_done_do_not_hold_up_those_that_are(store, monkeypatch):
    monkeypatch.setattr(groups, "WAKE_BATCH", 2)
    for number in range(5):
        a_group(store, "NEW", reference=f"not done {number}")
    done = [a_group(store, "COMPLETE", reference=f"done {number}")[1] for number in range(5)]
    assert [store.wake() for _ in range(4)] == [2, 2, 1, 0]
    assert {state(store, final) for final in done} == {"READY"}


# Retried, it waits again.


@pytest.mark.parametrize("ended_as", ["COMPLETE", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("other, then", [("NEW", "WAITING"), ("FAILED", "WAITING"), ("COMPLETE", "READY")])
def test_a_retried_final_job_is_due_only_if_the_others_have_ended(store, ended_as, other, then):
    _, final, _ = a_group(store, other)
    Job.objects.using(store.using).filter(pk=final.pk).update(state=ended_as, finished=clock(store))
    assert store.retry([final.pk]) == {final.pk}
    assert (state(store, final), reread(store, final).finished) == (then, None)


def test_a_final_job_retried_with_the_others_waits_for_them(store):
    _, final, [other] = a_group(store, "COMPLETE")
    Job.objects.using(store.using).filter(pk=final.pk).update(state="COMPLETE")
    assert store.retry([final.pk, other.pk]) == {final.pk, other.pk}
    assert (state(store, final), state(store, other)) == ("WAITING", "READY")


# Beside others.


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_many_wake_at_once_and_each_final_job_once(store):
    for number in range(20):
        a_group(store, "COMPLETE", reference=str(number))
    # What one has locked another passes over, so none waits; nothing is left behind.
    assert sum(together(4, lambda _: store.wake())) == 20
    assert store.wake() == 0


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_final_job_that_another_holds_locked_keeps_no_one_waiting(store):
    _, final, _ = a_group(store, "COMPLETE", reference="locked")
    a_group(store, "COMPLETE", reference="free")
    with locked(store, final):
        assert store.wake() == 1
    assert (store.wake(), state(store, final)) == (1, "READY")


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_group_that_is_not_done_is_not_locked_by_looking(store):
    """Or the worker that ends its last job would find it locked by one that looked too early."""
    group, _, _ = a_group(store, "NEW")
    with transaction.atomic(using=store.using):
        assert store.wake() == 0
        free = together(1, lambda _: nowait(store, group))
    assert free == [group.pk]


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_a_job_added_between_the_look_and_the_lock_keeps_the_final_one_waiting(store):
    group, final, _ = a_group(store)
    statements = []

    def between(execute, *statement):
        statements.append(statement)
        if len(statements) == 2:
            together(1, lambda _: Job.objects.using(store.using).create(name="five", group=group))
        return execute(*statement)

    with connections[store.using].execute_wrapper(between):
        assert store.wake() == 0
    assert len(statements) > 2 and group.jobs.count() == 2
    assert state(store, final) == "WAITING"


def nowait(store, group):
    with transaction.atomic(using=store.using):
        rows = Group.objects.using(store.using).select_for_update(nowait=True)
        return rows.get(pk=group.pk).pk


# What it costs.


def test_with_nothing_to_wake_it_is_one_statement(store, django_assert_num_queries):
    make_jobs(store, 3)
    a_group(store, "NEW")
    with django_assert_num_queries(1, connection=connections[store.using]):
        store.wake()


FILL = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name, priority,
    staged, claim, group_id, finished)
SELECT gen_random_uuid(), now(), now(), 'nothing', %s, 'tests.workflows.nothing', '{}', 'default', 0, true, 1,
    %s + n %% %s, CASE WHEN %s = 'COMPLETE' THEN now() END
FROM generate_series(1, %s) AS n
"""


@pytest.fixture
def emptied():
    with blank_table():
        yield


@pytest.mark.postgresql
@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", ["default"], indirect=True)
def test_it_reads_few_pages_of_a_big_table_whatever_the_planner_knows(store, emptied):
    Group.objects.bulk_create(Group(reference=str(n)) for n in range(2_000))
    first = Group.objects.order_by("pk").first().pk
    with connections["default"].cursor() as cursor:
        cursor.execute(FILL, ["COMPLETE", first, 2_000, "COMPLETE", 200_000])
        cursor.execute(FILL, ["NEW", first, 50, "NEW", 5_000])
        cursor.execute(FILL, ["COMPLETE", None, 1, "COMPLETE", 100_000])

    def pages():
        with CaptureQueriesContext(connections["default"]) as ran:
            store.wake()
        with connections["default"].cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + ran[0]["sql"].replace("%", "%%"), [])
            [[found]] = cursor.fetchall()
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        assert "Seq Scan" not in json.dumps(plan)
        assert '"dbq_job_waiting"' in json.dumps(plan)
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    try:
        # As a worker asks, before the planner knows anything of all this and after.
        store.prepare_session(LEASE)
        assert pages() < 10
        for group in Group.objects.order_by("pk")[:50]:
            group.on_completion(make_job(store))
        assert pages() < 50 * 20
        with connections["default"].cursor() as cursor:
            cursor.execute("ANALYZE")
        assert pages() < 50 * 20
    finally:
        connections["default"].close()
