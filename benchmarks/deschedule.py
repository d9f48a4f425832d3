"""How long deschedule() takes among a million other waiting calls.

Run with `python -m benchmarks.deschedule`.
"""

from __future__ import annotations

import statistics
import time

from benchmarks import harness

OTHERS = 1_000_000
SAMPLES = 20


def fill() -> None:
    """Make many copies of one waiting call, each with an identity of its own."""
    from django.db import connection

    from django_dbq import schedule

    harness.empty_tables()
    schedule("builtins.len", [[]])
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, queue_name,"
            " priority, workspace, call, signature, plan, identity)"
            " SELECT gen_random_uuid(), now(), now(), name, state, next_task, queue_name,"
            " priority, workspace, call, signature, plan, md5(n::text) || md5(n::text)"
            " FROM django_dbq_job, generate_series(1, %s) AS n",
            [OTHERS],
        )
        cursor.execute("ANALYZE django_dbq_job")


def sample(number: int) -> float:
    """Return the milliseconds of cancelling one call among the others."""
    from django_dbq import deschedule, schedule

    schedule("builtins.len", [[number]])
    began = time.perf_counter()
    cancelled = deschedule("builtins.len", [[number]])
    taken = 1_000 * (time.perf_counter() - began)
    if cancelled != 1:
        raise SystemExit(f"{cancelled} calls were cancelled in place of one")
    return taken


def main() -> None:
    harness.prepare()
    print(harness.versions(), flush=True)
    fill()
    taken = [sample(number) for number in range(SAMPLES)]
    print(
        f"deschedule among {OTHERS:,} waiting calls: median {statistics.median(taken):.1f} ms,"
        f" longest {max(taken):.1f} ms"
    )


if __name__ == "__main__":
    main()
