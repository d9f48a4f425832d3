"""How long health() takes beside a long past: a million finished jobs with their history.

Run with `python -m benchmarks.health`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from benchmarks import harness

FILL = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name, priority,
    started, finished, error)
SELECT gen_random_uuid(), at, at, (ARRAY['shop.jobs.mail', 'shop.jobs.bill', 'shop.jobs.ship'])[1 + n %% 3],
    CASE WHEN n %% 100 = 0 THEN 'FAILED' WHEN n %% 100 = 1 THEN 'CANCELLED' ELSE 'COMPLETE' END,
    '', '{"customer": 42}', 'default', n %% 3, at, at, CASE WHEN n %% 100 = 0 THEN 'ValueError: no' END
FROM (SELECT n, now() - interval '1 day' + n * interval '1 millisecond' AS at
      FROM generate_series(1, %(count)s) AS n) AS made
"""
FILL_HISTORY = """
INSERT INTO django_dbq_taskrun (job_id, claim, task, position, attempt, worker, started, finished, outcome)
SELECT id, 1, name, 0, 1, 'gone', finished - interval '20 milliseconds', finished, 'done'
FROM django_dbq_job
WHERE state <> 'CANCELLED'
ORDER BY finished
"""
FILL_WAITING = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name, priority)
SELECT gen_random_uuid(), now(), now(), 'shop.jobs.mail', 'NEW', 'shop.jobs.mail', '{}', 'default', n %% 3
FROM generate_series(1, %(count)s) AS n
"""


def fill(finished: int, waiting: int) -> None:
    """Make the tables as years of work, kept, would leave them."""
    from django.db import connection

    harness.empty_tables()
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"count": finished})
        cursor.execute(FILL_HISTORY)
        cursor.execute(FILL_WAITING, {"count": waiting})
        cursor.execute("ANALYZE django_dbq_job, django_dbq_taskrun")


def measure(samples: int) -> list[float]:
    """Return, in milliseconds, how long each of `samples` calls took."""
    from django_dbq import health

    taken = []
    for _ in range(samples):
        began = time.perf_counter()
        health("precise")
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=1_000)
    parser.add_argument("--samples", type=int, default=50)
    options = parser.parse_args()
    harness.prepare()
    print(harness.versions(), flush=True)
    fill(options.finished, options.waiting)
    from django_dbq import health

    began = time.perf_counter()
    found = health()["queue"]
    first = 1000 * (time.perf_counter() - began)
    taken = measure(options.samples)
    print(f"states {json.dumps(found['states'])}, estimated {found['estimated']}")
    print(
        f"health() with {options.finished:,} finished and {options.waiting:,} waiting jobs:"
        f" median {statistics.median(taken):.1f} ms ({min(taken):.1f} to {max(taken):.1f}),"
        f" the first call {first:.1f} ms (wanted: under 50 ms)"
    )


if __name__ == "__main__":
    main()
