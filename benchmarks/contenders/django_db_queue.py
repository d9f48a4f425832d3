"""django-db-queue 3 as shipped, which sleeps a second before each task."""

from __future__ import annotations

from typing import Any

from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE
from benchmarks.contenders._django import DjangoBench


class Bench(DjangoBench):
    requirements = ("django-db-queue==3.*", "psycopg2-binary", "dj-database-url")
    package = "django-db-queue"
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    scales = True
    settings = "--rate_limit 0; processes in the place of threads"
    durability = "with the caller's commit"
    history = "a row for each job"
    crash_safety = "none: the job stays PROCESSING"
    tables = ("django_dbq_job",)

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        from django_dbq.models import Job
        from django_dbq.tasks import get_next_task_name

        workspace = {"step": 0} if value is None else value
        first = get_next_task_name(kind)
        Job.objects.bulk_create(
            [Job(name=kind, next_task=first, workspace=dict(workspace)) for _ in range(count)],
            batch_size=1_000,
        )

    def put(self, kind: str, value: Any = None) -> None:
        from django_dbq.models import Job

        Job.objects.create(name=kind, workspace={} if value is None else {"index": value})

    def fill(self, what: str, count: int) -> None:
        columns = {
            "waiting": "'NEW', null",
            "finished": "'COMPLETE', null",
            "future": "'NEW', now() + interval '1 day'",
        }[what]
        self.sql(
            "INSERT INTO django_dbq_job (id, created, modified, name, next_task, workspace, queue_name,"
            " priority, state, run_after) SELECT gen_random_uuid(), now(), now(), 'nothing',"
            f" 'benchmarks.tasks.nothing', '{{}}', 'default', 0, {columns} FROM generate_series(1, %s)",
            count,
        )
        self.sql("ANALYZE django_dbq_job")

    def finished(self) -> int:
        count: int = self.sql("SELECT count(*) FROM django_dbq_job WHERE state = 'COMPLETE'")[0][0]
        return count

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        return [self.command("worker", "default", "--rate_limit", "0")] * (processes * threads)
