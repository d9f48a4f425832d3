"""django-tasks-db, the database backend of Django's own tasks."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE
from benchmarks.contenders._django import DjangoBench


class Bench(DjangoBench):
    requirements = ("django-tasks-db", "Django==6.1.*", "psycopg2-binary", "dj-database-url")
    package = "django-tasks-db"
    environ: ClassVar = {
        "DJANGO_SETTINGS_MODULE": "benchmarks.contenders._django_peers_settings",
        "BENCH_APP": "django_tasks_db",
    }
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    scales = True
    settings = (
        "CONN_MAX_AGE None, --interval 0.01, --verbosity 0; processes in the place of threads;"
        " in bulk: many in one transaction, then ANALYZE; steps: each enqueues the next"
    )
    durability = "with the caller's commit"
    history = "a row for each task"
    crash_safety = "none: the task stays RUNNING"
    tables = ("django_tasks_database_dbtaskresult",)

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        from django.db import transaction

        with transaction.atomic():
            for _ in range(count):
                self.put(kind, value)
        # Else, until autovacuum comes by, each claim sorts the whole table.
        self.sql("ANALYZE django_tasks_database_dbtaskresult")

    def put(self, kind: str, value: Any = None) -> None:
        from benchmarks.contenders import _django_tasks_db_app as app

        args = {STEPS: (1, {"step": 0}), STAMP: (value,), PAYLOAD: (value,)}.get(kind, ())
        getattr(app, kind).enqueue(*args)
        self.enqueued += 1

    def fill(self, what: str, count: int) -> None:
        columns = {
            "waiting": "'READY', '9999-01-01Z', null",
            "finished": "'SUCCESSFUL', '9999-01-01Z', now()",
            "future": "'READY', now() + interval '1 day', null",
        }[what]
        self.sql(
            "INSERT INTO django_tasks_database_dbtaskresult (id, enqueued_at, args_kwargs, priority,"
            " task_path, worker_ids, queue_name, backend_name, exception_class_path, traceback, status,"
            ' run_after, finished_at) SELECT gen_random_uuid(), now(), \'{"args": [], "kwargs": {}}\', 0,'
            " 'benchmarks.contenders._django_tasks_db_app.nothing', '[]', 'default', 'default', '', '',"
            f" {columns} FROM generate_series(1, %s)",
            count,
        )
        self.sql("ANALYZE django_tasks_database_dbtaskresult")

    def reset(self) -> None:
        super().reset()
        self.enqueued = 0

    def finished(self) -> int:
        # Of a chain one task is there before the one that made it is over.
        rows = self.sql(
            "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status <> 'SUCCESSFUL'"
        )
        return self.enqueued - int(rows[0][0])

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        worker = self.command("db_worker", "--interval", "0.01", "--no-startup-delay", "--verbosity", "0")
        return [worker] * (processes * threads)
