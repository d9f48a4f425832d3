"""What the planner knows of a table full of finished jobs must not slow the statements about running ones."""

import json

import pytest
from django.db import connection

from django_dbq.engine.lifecycle import State, Transition
from django_dbq.models import Job
from django_dbq.store import get_store
from django_dbq.store.postgres import columns, columns_of_one, statement

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]  # Rolled back, statistics and all.

FINISHED, RUNNING, WORKER = 2_000, 500, "one"


@pytest.fixture
def running():
    """Jobs that a worker runs, in a table that was last looked at when all of it was finished."""
    ids = Job.objects.enqueue_many("five", [{}] * (FINISHED + RUNNING))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_dbq_job SET state = 'COMPLETE', finished = now(), claim = 1")
        cursor.execute("ANALYZE django_dbq_job")
    Job.objects.filter(pk__in=ids[FINISHED:]).update(
        state="PROCESSING", finished=None, claimed_by=WORKER, lease_until="2100-01-01T00:00Z"
    )
    return ids[FINISHED:]


def compared_in_vain(plan):
    """Return how many pairs of rows the plan looked at to find that they do not belong together."""
    own = plan.get("Rows Removed by Join Filter", 0) * plan.get("Actual Loops", 1)
    return own + sum(compared_in_vain(part) for part in plan.get("Plans", []))


def explained(verb, values):
    """Run a statement as a worker does; return its plan."""
    get_store("default").prepare_session(30)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement(verb)}", values)
        found = cursor.fetchone()[0]
    return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]


def test_a_record_compares_each_job_with_its_own_transition_alone(running):
    ended = [Transition(pk, 1, State.COMPLETE, "", 4, 1, 0, "done") for pk in running]
    values = {**columns(ended, 0.0), "worker": WORKER, "lease": 30, "now": None}
    plan = explained("record", values)
    assert plan["Actual Rows"] == 1  # One state, with the places of all.
    assert plan["Plans"][-1]["Actual Rows"] == RUNNING
    assert compared_in_vain(plan) <= RUNNING


def test_a_heartbeat_compares_each_job_with_its_own_claim_alone(running):
    values = {"ids": running, "claims": [1] * RUNNING, "worker": WORKER, "lease": 30, "stopping": False}
    plan = explained("extend", values)
    assert plan["Actual Rows"] == RUNNING
    assert compared_in_vain(plan) <= RUNNING


def test_a_record_of_one_job_finds_it_by_its_key(running):
    ended = Transition(running[0], 1, State.COMPLETE, "", 4, 1, 0, "done")
    plan = explained("record_one", {**columns_of_one(ended, 0.0, WORKER, 30), "now": None})
    assert plan["Actual Rows"] == 1
    assert '"Index Name": "django_dbq_job_pkey"' in json.dumps(plan)
