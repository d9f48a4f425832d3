import re
import uuid

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from tests.store.helpers import ALIASES, claim, claimed, clock, columns, make_job, record, reread, transition

pytestmark = pytest.mark.django_db(databases=ALIASES)


@pytest.mark.parametrize("state", ["NEW", "READY", "WAITING"])
def test_a_waiting_job_is_cancelled_now(store, state):
    job = make_job(store, state=state)
    before = clock(store)
    assert store.cancel([job.id]) == {job.id: "CANCELLED"}
    row = reread(store, job)
    assert (row.state, row.cancel_requested) == ("CANCELLED", False)
    assert before <= row.finished <= clock(store)
    assert claim(store) == []


@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING"])
def test_a_held_job_is_asked_to_end(store, state):
    job = claimed(store)
    store.extend([job], worker="one", lease_seconds=60, stopping=state == "STOPPING")
    assert store.cancel([job.id]) == {job.id: state}
    row = reread(store, job)
    assert (row.state, row.cancel_requested, row.claimed_by) == (state, True, "one")
    assert row.finished is None and row.claim == job.claim


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED", "CANCELLED"])
def test_a_finished_job_is_left_alone_and_missing_from_the_answer(store, state):
    job = claimed(store)
    record(store, transition(job, state))
    before = columns(store, job)
    assert store.cancel([job.id]) == {}
    assert columns(store, job) == before


def test_many_jobs_are_cancelled_at_once_and_others_are_left_alone(store):
    waiting, held, other = make_job(store), claimed(store), make_job(store, queue_name="other")
    before = columns(store, other)
    answer = store.cancel([waiting.id, held.id, uuid.uuid4()])
    assert answer == {waiting.id: "CANCELLED", held.id: "PROCESSING"}
    assert columns(store, other) == before


def test_no_jobs_are_an_empty_answer(store):
    assert store.cancel([]) == {}


if "mariadb" in ALIASES:

    @pytest.mark.parametrize("store", ["mariadb"], indirect=True)
    def test_who_waits_for_rows_on_mariadb_locks_them_by_their_key_alone(store):
        job, held = make_job(store, identity="i"), claimed(store)
        with CaptureQueriesContext(connections[store.using]) as ran:
            store.deschedule("i")
            store.retry([job.id])
            store.cancel([job.id, held.id])
            store.run_now([job.id])
            store.expire(["one"])
            record(store, transition(held))
        locking = [query["sql"] for query in ran if "FOR UPDATE" in query["sql"]]
        by_key = re.compile(r"WHERE `django_dbq_job`\.`id` IN \([^)]*\) ORDER BY \S+ ASC FOR UPDATE")
        assert len(locking) == 6 and all(by_key.search(sql) for sql in locking), locking
