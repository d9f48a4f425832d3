"""absurd, through its Python SDK."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from benchmarks import marks
from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, STEPS_COUNT, WRITE, Contender

BATCH = 100
POLL_SECONDS = 0.01


class Bench(Contender):
    requirements = ("absurd-sdk", "absurdctl", "psycopg[binary]")
    package = "absurd-sdk"
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    settings = (
        f"batch_size {BATCH}, poll_interval {POLL_SECONDS}, concurrency as many as threads (they share one"
        " connection); in bulk: spawned in one transaction; steps: its own"
    )
    durability = "with the caller's commit"
    history = "a row for each task, one for each run and one for each step"
    crash_safety = "lease of 120 s: runs again from the step it was at"

    def __init__(self) -> None:
        super().__init__()
        import psycopg

        self.connection = psycopg.connect(self.url, autocommit=True)
        self.app = application(self.connection)

    def prepare(self) -> None:
        from absurdctl import BUNDLED_SCHEMA_SQL

        self.connection.execute(BUNDLED_SCHEMA_SQL)
        self.app.create_queue()
        self.connection.execute("CREATE TABLE bench_written (id bigserial PRIMARY KEY, text text)")

    def reset(self) -> None:
        tables = ", ".join(f"absurd.{letter}_default" for letter in "trcew")
        self.connection.execute(f"TRUNCATE {tables}, bench_written")
        self.connection.execute("CHECKPOINT")

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        with self.connection.transaction():
            for _ in range(count):
                self.put(kind, value)

    def put(self, kind: str, value: Any = None) -> None:
        self.app.spawn(kind, {"step": 0} if value is None else value)

    def finished(self) -> int:
        statement = "SELECT count(*) FROM absurd.t_default WHERE state = 'completed'"
        found = self.connection.execute(statement).fetchone()
        return found[0]

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        work = f"from benchmarks.contenders.absurd import work; work({threads})"
        return [[sys.executable, "-c", work]] * processes


def application(connection: Any) -> Any:
    """Return the client with its tasks."""
    import threading
    import time

    import absurd_sdk
    import psycopg

    app = absurd_sdk.Absurd(connection, default_max_attempts=1)
    own = threading.local()

    @app.register_task(NOTHING)
    def nothing(params: Any, ctx: Any) -> None:
        marks.ran()

    @app.register_task(STEPS)
    def steps(params: Any, ctx: Any) -> Any:
        value = params
        for place in range(1, STEPS_COUNT + 1):
            value = ctx.step(f"step-{place}", partial(step, place, value))
        return value

    @app.register_task(STAMP)
    def stamp(params: Any, ctx: Any) -> None:
        marks.stamp(params)

    @app.register_task(SLOW)
    def slow(params: Any, ctx: Any) -> None:
        time.sleep(1)
        marks.ran()

    @app.register_task(WRITE)
    def write(params: Any, ctx: Any) -> None:
        if not hasattr(own, "connection"):
            own.connection = psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True)
        own.connection.execute("INSERT INTO bench_written (text) VALUES ('written')")
        marks.ran()

    @app.register_task(PAYLOAD)
    def payload(params: Any, ctx: Any) -> Any:
        marks.ran()
        return params

    return app


def step(place: int, value: dict[str, int]) -> dict[str, int]:
    """Hand a small object on; it has to have come from the step before."""
    value = {"step": value["step"] + 1}
    if value["step"] != place:
        raise ValueError(f"step {place} was given {value}")
    marks.ran()
    return value


def work(threads: int) -> None:
    """Run one worker process."""
    import signal

    app = application(os.environ["BENCH_DATABASE_URL"])
    signal.signal(signal.SIGTERM, lambda *_: app.stop_worker())
    app.start_worker(concurrency=threads, batch_size=BATCH, poll_interval=POLL_SECONDS)
