import json

import pytest
from django.db import connection, transaction

from django_dbq.models import Job
from django_dbq.store import get_store
from django_dbq.store.postgres import statement
from tests.isolation.sessions import Session, orders, play
from tests.store.helpers import (
    ALIASES,
    LEASE,
    blank_table,
    claim,
    claimed,
    clock,
    columns,
    make_job,
    make_jobs,
    record,
    reread,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)

ONE, OTHER = "1" * 64, "2" * 64


def mark(store, *jobs, identity=ONE):
    Job.objects.using(store.using).filter(pk__in=[job.pk for job in jobs]).update(identity=identity)


@pytest.mark.parametrize("state", ["NEW", "READY", "WAITING"])
def test_a_waiting_call_is_cancelled(store, state):
    job = make_job(store, state=state, identity=ONE)
    before = clock(store)
    assert store.deschedule(ONE) == 1
    row = reread(store, job)
    assert (row.state, row.cancel_requested, row.claimed_by) == ("CANCELLED", False, None)
    assert before <= row.finished <= clock(store) and row.modified >= before
    assert claim(store) == []


def test_only_what_says_so_is_changed(store):
    job = make_job(store, identity=ONE, error="no", attempt=2, workspace={"a": 1})
    changed = {"state", "finished", "modified"}
    before = columns(store, job)
    store.deschedule(ONE)
    after = columns(store, job)
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING"])
def test_one_that_runs_is_left_and_not_asked_to_end(store, state):
    job = claimed(store)
    mark(store, job)
    store.extend([job], worker="one", lease_seconds=60, stopping=state == "STOPPING")
    before = columns(store, job)
    assert before["state"] == state
    assert store.deschedule(ONE) == 0
    assert columns(store, job) == before


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED", "CANCELLED"])
def test_one_that_has_ended_is_left(store, state):
    job = claimed(store)
    mark(store, job)
    record(store, transition(job, state))
    before = columns(store, job)
    assert store.deschedule(ONE) == 0
    assert columns(store, job) == before


def test_many_are_cancelled_and_counted_and_others_are_left(store):
    many = make_jobs(store, 5, identity=ONE)
    others = [make_job(store, identity=OTHER), make_job(store)]
    before = [columns(store, job) for job in others]
    assert store.deschedule(ONE) == 5
    assert {reread(store, job).state for job in many} == {"CANCELLED"}
    assert [columns(store, job) for job in others] == before
    assert store.deschedule(ONE) == 0


def test_an_identity_that_nothing_has_is_none(store):
    make_job(store)
    assert store.deschedule(ONE) == 0


# Beside others, on PostgreSQL in every order.


@pytest.fixture
def sessions():
    store = get_store("default")
    found = {name: Session(name, lambda: store.prepare_session(LEASE)) for name in ("deschedule", "other")}
    yield found
    for session in found.values():
        session.close()


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["claim", "claim_by_id"])
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_call_is_taken_or_descheduled_and_never_both(sessions, how, ends):
    store = get_store("default")
    for order in orders({"deschedule": 2, "other": 2}):
        Job.objects.all().delete()
        job = make_job(store, identity=ONE)

        def take(job=job):
            if how == "claim":
                return claim(store)
            return store.claim_by_id([job.pk], worker="one", lease_seconds=LEASE)

        story = play(
            {"deschedule": sessions["deschedule"], "other": sessions["other"]},
            {"deschedule": [lambda: store.deschedule(ONE)], "other": [take]},
            {"deschedule": "commit", "other": ends},
            order,
        )
        number, taken = story.answer("deschedule"), story.answer("other")
        row = reread(store, job)
        if taken and ends == "commit":
            assert (number, row.state, row.finished) == (0, "PROCESSING", None), str(story)
        else:
            assert (number, row.state) == (1, "CANCELLED"), str(story)
        assert "other" not in story.waited, str(story)


# On a big table.

WAITING, FINISHED, OF_ONE = 100_000, 20_000, 10
BUFFERS_MAX = 50
FILL = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name, priority,
    identity, finished)
SELECT gen_random_uuid(), now(), now(), 'tests.calls.functions.echo', %(state)s, 'tests.calls.functions.echo',
    '{}', 'default', 0, encode(sha256(convert_to(n::text, 'UTF8')), 'hex'),
    CASE WHEN %(state)s = 'COMPLETE' THEN now() END
FROM generate_series(1, %(count)s) AS n
"""


def execute(sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture
def big_table():
    with blank_table():
        execute(FILL, {"state": "READY", "count": WAITING})
        execute(FILL, {"state": "COMPLETE", "count": FINISHED})
        make_jobs(get_store("default"), OF_ONE, identity=ONE)
        yield


def assert_plan():
    """The statement finds its rows by their index, and reads few pages for each."""
    with transaction.atomic():
        values = {"identity": ONE}
        found = execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement('deschedule')}", values)[0][0]
        (number,) = execute("SELECT count(*) FROM django_dbq_job WHERE state = 'CANCELLED'")[0]
        transaction.set_rollback(True)
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    assert number == OF_ONE
    assert '"dbq_job_identity"' in json.dumps(plan) and "Seq Scan" not in json.dumps(plan)
    assert (plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) / OF_ONE < BUFFERS_MAX


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_the_number_of_other_waiting_calls_does_not_slow_it(big_table):
    store = get_store("default")
    # Right after a mass of inserts the planner knows nothing of them.
    store.prepare_session(lease_seconds=LEASE)
    try:
        assert_plan()
    finally:
        connection.close()
    execute("ANALYZE django_dbq_job")
    # Those who deschedule have prepared no session.
    assert_plan()
