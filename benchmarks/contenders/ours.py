"""django_dbq, from this working tree."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE
from benchmarks.contenders._django import DjangoBench


class Bench(DjangoBench):
    requirements = (".", "psycopg2-binary", "dj-database-url")
    package = "django-db-queue"
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    scales = True
    environ: ClassVar = {**DjangoBench.environ, "MALLOC_ARENA_MAX": "1"}
    settings = "the defaults, nothing logged, with MALLOC_ARENA_MAX=1"
    durability = "with the caller's commit"
    history = "a row for each job, and one for each attempt at a task"
    crash_safety = "lease and fence: runs again elsewhere, once the lease is over"
    tables = ("django_dbq_job", "django_dbq_taskrun")

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        from django_dbq.models import Job

        workspace = {STEPS: {"step": 0}}.get(kind, value or {})
        Job.objects.enqueue_many(kind, (workspace for _ in range(count)))

    def put(self, kind: str, value: Any = None) -> None:
        from django_dbq.models import Job

        Job.objects.create(name=kind, workspace={} if value is None else {"index": value})

    def fill(self, what: str, count: int) -> None:
        columns = {
            "waiting": "'NEW', true, null, null",
            "finished": "'COMPLETE', true, null, now()",
            "future": "'NEW', false, now() + interval '1 day', null",
        }[what]
        self.sql(
            "INSERT INTO django_dbq_job (id, created, modified, name, next_task, workspace, queue_name,"
            " priority, plan, state, staged, run_after, finished) SELECT uuidv7(), now(), now(), 'nothing',"
            " 'benchmarks.tasks.nothing', '{}', 'default', 0, '[\"benchmarks.tasks.nothing\"]',"
            f" {columns} FROM generate_series(1, %s)",
            count,
        )
        if what == "finished":
            self.sql(
                "INSERT INTO django_dbq_taskrun (job_id, claim, task, position, attempt, worker, started,"
                " finished, outcome) SELECT id, 1, next_task, 0, 1, 'bench', now(), now(), 'done'"
                " FROM django_dbq_job WHERE state = 'COMPLETE'"
            )
        self.sql("ANALYZE django_dbq_job, django_dbq_taskrun")

    def finished(self) -> int:
        count: int = self.sql("SELECT count(*) FROM django_dbq_job WHERE state = 'COMPLETE'")[0][0]
        return count

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        return [self.command("worker", "--processes", str(processes), "--threads", str(threads))]
