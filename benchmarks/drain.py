"""How fast one worker process drains a queue, beside a bare loop that commits twice a job.

Run with `python -m benchmarks.drain`. Rounds are interleaved, rates come from the
database's own timestamps, medians and ranges are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks import harness

JOBS = 20_000
WORKFLOWS = 4_000
BARE_JOBS = 2_000


def drain(name: str, count: int, workspace: dict[str, object], processes: int) -> float:
    """Return the jobs per second of `count` jobs, from the first start to the last finish."""
    from django.db.models import Count, Max, Min

    from django_dbq.models import Job, TaskRun

    harness.empty_tables()
    Job.objects.bulk_create(Job(name=name, workspace=dict(workspace)) for _ in range(count))
    with harness.worker("--burst", "--processes", str(processes)) as process:
        code = process.wait(timeout=600)
    facts = Job.objects.filter(state="COMPLETE").aggregate(
        done=Count("pk"), begun=Min("started"), ended=Max("finished")
    )
    runs, steps = TaskRun.objects.count(), 5 if name == "five_steps" else 1
    if code or facts["done"] != count or runs != count * steps:
        raise SystemExit(f"not drained: exit {code}, {facts['done']} of {count} jobs, {runs} task runs")
    return count / (facts["ended"] - facts["begun"]).total_seconds()


def bare_loop(count: int) -> float:
    """Return the jobs per second of a loop that claims one job and finishes it, in two commits."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bare_job")
        cursor.execute(
            "CREATE TABLE bare_job (id bigserial PRIMARY KEY, state text NOT NULL, workspace jsonb)"
        )
        cursor.execute("CREATE INDEX ON bare_job (id) WHERE state = 'NEW'")
        cursor.execute(
            "INSERT INTO bare_job (state, workspace) SELECT 'NEW', '{}' FROM generate_series(1, %s)", [count]
        )
        cursor.execute("ANALYZE bare_job")
    connection.ensure_connection()
    cursor = connection.connection.cursor()  # The driver's own, without Django's wrapper.
    began = time.perf_counter()
    for _ in range(count):
        cursor.execute(
            "UPDATE bare_job SET state = 'PROCESSING' WHERE id = (SELECT id FROM bare_job WHERE state = 'NEW'"
            " ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, workspace"
        )
        (job_id, _workspace) = cursor.fetchone()
        cursor.execute("UPDATE bare_job SET state = 'COMPLETE' WHERE id = %s", [job_id])
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    harness.prepare()
    print(harness.versions(), flush=True)
    bare, jobs, tasks = [], [], []
    for round_ in range(1, options.rounds + 1):
        bare.append(bare_loop(BARE_JOBS))
        jobs.append(drain("nothing", JOBS, {}, options.processes))
        tasks.append(5 * drain("five_steps", WORKFLOWS, {"customer": 42}, options.processes))
        print(
            f"round {round_}: bare loop {bare[-1]:,.0f} jobs/s, {JOBS:,} jobs {jobs[-1]:,.0f} jobs/s,"
            f" {WORKFLOWS:,} x 5 tasks {tasks[-1]:,.0f} tasks/s",
            flush=True,
        )
    base = statistics.median(bare)
    print(f"bare loop, two commits a job   {harness.spread(bare)} jobs/s")
    print(
        f"one no-op task a job           {harness.spread(jobs)} jobs/s"
        f" = {statistics.median(jobs) / base:.1f}x the bare loop (wanted: 4x)"
    )
    print(
        f"five tasks a job               {harness.spread(tasks)} tasks/s"
        f" = {statistics.median(tasks) / base:.1f}x the bare loop (wanted: 6x)"
    )


if __name__ == "__main__":
    main()
