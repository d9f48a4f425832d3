"""How PostgreSQL runs the statements on a big table: by index, and with few pages read for each job."""

import json

import pytest
from django.db import connection, transaction

from django_dbq.store import get_store
from django_dbq.store.postgres import statement
from tests.store.helpers import blank_table

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

FINISHED, FUTURE, DUE, LOST = 1_000_000, 200_000, 10_000, 1_000
BUFFERS_MAX = 50

FILL = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name, priority,
    run_after, staged, claim, claimed_by, lease_until, finished)
SELECT lpad(to_hex(%(first)s + n), 32, '0')::uuid, at, at, 'nothing', %(state)s, 'tests.workflows.nothing',
    '{}', CASE n %% 4 WHEN 0 THEN 'other' ELSE 'default' END, n %% 3,
    CASE WHEN %(staged)s THEN NULL ELSE now() + n * interval '1 minute' END, %(staged)s,
    1, %(worker)s, CASE WHEN %(worker)s IS NULL THEN NULL ELSE at END,
    CASE WHEN %(state)s = 'COMPLETE' THEN at END
FROM (SELECT n, now() - interval '1 day' + n * interval '1 millisecond' AS at
      FROM generate_series(1, %(count)s) AS n) AS made
"""


def execute(sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture
def big_table():
    """A table with a long past, a long future and a little to do, as upkeep would leave it."""
    with blank_table():
        first = 0
        for count, state, staged, worker in (
            (FINISHED, "COMPLETE", True, None),
            (FUTURE, "READY", False, None),
            (DUE, "READY", True, None),
            (LOST, "PROCESSING", True, "gone"),
        ):
            values = {"first": first, "count": count, "state": state, "staged": staged, "worker": worker}
            execute(FILL, values)
            first += count
        yield


def explain(verb, values):
    """Run a statement and undo it; return its plan's text, the pages it read, and the rows of its answer."""
    with transaction.atomic():
        found = execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement(verb)}", values)[0][0]
        transaction.set_rollback(True)
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return json.dumps(plan), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan["Actual Rows"]


def explain_claim(limit, *queue_names):
    values = {"worker": "one", "limit": limit, "lease": 30, "now": None}
    if len(queue_names) == 1:
        return explain("claim_one", {**values, "queue_name": queue_names[0]})
    return explain("claim", {**values, "queue_names": [*queue_names]})


def assert_plans():
    for limit, *queue_names in (
        (1, "default"),
        (1, "default", "other"),
        (10, "default"),
        (100, "default"),
        (100, "default", "other", "none"),
    ):
        plan, buffers, rows = explain_claim(limit, *queue_names)
        assert rows == limit
        assert '"dbq_job_claim"' in plan and "Seq Scan" not in plan
        assert buffers / limit < BUFFERS_MAX, (limit, queue_names, buffers / limit)

    plan, buffers, rows = explain_claim(100, "none")
    assert (rows, '"dbq_job_claim"' in plan) == (0, True)
    assert buffers < BUFFERS_MAX

    plan, buffers, _ = explain("stage", {"now": None, "limit": 1_000})
    assert '"dbq_job_stage"' in plan and "Seq Scan" not in plan
    assert buffers < BUFFERS_MAX

    values = {"worker": "one", "held": [], "lease": 30, "lost_attempts_max": 3, "now": None, "limit": 100}
    plan, buffers, rows = explain("rescue", values)
    assert rows == 100
    assert '"dbq_job_lease"' in plan and "Seq Scan" not in plan
    assert buffers / 100 < BUFFERS_MAX, buffers / 100


def assert_bounded_counts():
    """What health() reads of a million jobs is a sample of the pages, and some hundreds of rows."""
    values = {"pages": 500, "limit": 2_001, "many": 4_000}
    plan, buffers, _ = explain("count", values)
    assert "Sample Scan" in plan and "Seq Scan" not in plan
    assert buffers < 2 * 500 + 2 * LOST, buffers

    plan, buffers, _ = explain("oldest_due", {"limit": 1_000})
    assert '"dbq_job_claim"' in plan and '"dbq_job_stage"' in plan and "Seq Scan" not in plan
    assert buffers < 10 * BUFFERS_MAX, buffers


def test_statements_read_few_pages_of_a_big_table_whatever_the_planner_knows(big_table):
    store = get_store("default")
    # Right after a mass of inserts the planner knows nothing of them.
    store.prepare_session(lease_seconds=30)
    try:
        assert_plans()
    finally:
        connection.close()
    # Not every caller prepares its session.
    assert_bounded_counts()
    execute("ANALYZE django_dbq_job")
    assert_plans()
    assert_bounded_counts()
