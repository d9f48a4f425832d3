"""django-q2 with the ORM as its broker."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE
from benchmarks.contenders._django import DjangoBench

FUNCTIONS = "benchmarks.contenders._django_q2_app"


class Bench(DjangoBench):
    requirements = ("django-q2", "Django==6.1.*", "psycopg2-binary", "dj-database-url")
    package = "django-q2"
    environ: ClassVar = {
        "DJANGO_SETTINGS_MODULE": "benchmarks.contenders._django_peers_settings",
        "BENCH_APP": "django_q",
    }
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    scales = True
    settings = (
        "CONN_MAX_AGE None, bulk 100, queue_limit 200, poll 0.01, recycle 1,000,000, save_limit -1;"
        " one cluster, its workers in the place of processes and threads; payload: save=True;"
        " in bulk: many in one transaction; steps: each enqueues the next"
    )
    durability = "with the caller's commit"
    history = "nothing of a success (save_limit -1)"
    crash_safety = "runs again after `retry` seconds, also when it was only slow"
    tables = ("django_q_ormq", "django_q_task", "django_q_schedule")

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        from django.db import transaction

        with transaction.atomic():
            for _ in range(count):
                self.put(kind, value)

    def put(self, kind: str, value: Any = None) -> None:
        from django_q.tasks import async_task

        args = {STEPS: (1, {"step": 0}), STAMP: (value,), PAYLOAD: (value,)}.get(kind, ())
        # What a payload returns is handed on as its saved result.
        async_task(f"{FUNCTIONS}.{kind}", *args, **({"save": True} if kind == PAYLOAD else {}))
        self.enqueued += 1

    def fill(self, what: str, count: int) -> None:
        if what == "waiting":
            self.put(NOTHING)  # Its signed text serves for all.
            columns = "django_q_ormq (key, payload, lock) SELECT key, payload, lock FROM django_q_ormq,"
            count -= 1
        elif what == "finished":
            columns = (
                "django_q_task (id, name, func, started, stopped, success, attempt_count)"
                f" SELECT md5(n::text), 'bench', '{FUNCTIONS}.nothing', now(), now(), true, 1 FROM"
            )
        else:
            columns = (
                "django_q_schedule (func, schedule_type, repeats, next_run)"
                f" SELECT '{FUNCTIONS}.nothing', 'O', -1, now() + interval '1 day' FROM"
            )
        self.sql(f"INSERT INTO {columns} generate_series(1, %s) AS series (n)", count)
        self.sql(f"ANALYZE {', '.join(self.tables)}")

    def reset(self) -> None:
        super().reset()
        self.enqueued = 0

    def finished(self) -> int:
        # A row is deleted when its task has succeeded; of a chain the next is there before.
        return self.enqueued - int(self.sql("SELECT count(*) FROM django_q_ormq")[0][0])

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        # Two clusters read the same rows, and are slower than one.
        return [["env", f"BENCH_WORKERS={processes * threads}", *self.command("qcluster")]]
