"""procrastinate, its jobs as coroutines."""

from __future__ import annotations

import os
import sys
from typing import Any

from benchmarks import marks
from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, STEPS_COUNT, WRITE, Contender

CONCURRENCY = 10
IN_BULK = 1_000
HANDED = "handed"  # Where payloads are handed on to; no worker takes from it.


class Bench(Contender):
    requirements = ("procrastinate", "psycopg[binary]")
    package = "procrastinate"
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    scales = True
    settings = (
        f"async tasks, --concurrency {CONCURRENCY}, a pool of as many connections; coroutines in the place of"
        " threads; in bulk: then ANALYZE; steps: each defers the next; a payload is handed on to a job that"
        " nobody takes"
    )
    durability = "with the caller's commit"
    history = "a row for each job, and one for each change of its status"
    crash_safety = "heartbeat of the worker: runs again when a task of one's own retries stalled jobs"

    def __init__(self) -> None:
        super().__init__()
        import psycopg

        self.app = application(self.url, 1, 1).open()
        self.connection = psycopg.connect(self.url, autocommit=True)

    def prepare(self) -> None:
        self.app.schema_manager.apply_schema()
        self.connection.execute("CREATE TABLE bench_written (id bigserial PRIMARY KEY, text text)")

    def reset(self) -> None:
        self.connection.execute("TRUNCATE procrastinate_jobs, procrastinate_workers, bench_written CASCADE")
        self.connection.execute("CHECKPOINT")

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        arguments = {NOTHING: {}, WRITE: {}, STEPS: {"place": 1, "value": {"step": 0}}}.get(
            kind, {"value": value}
        )
        for start in range(0, count, IN_BULK):
            self.app.tasks[kind].batch_defer(*[arguments] * min(IN_BULK, count - start))
        self.connection.execute("ANALYZE procrastinate_jobs")  # Without, its fetch may read the whole table.

    def put(self, kind: str, value: Any = None) -> None:
        self.app.tasks[kind].defer(**({} if kind != STAMP else {"value": value}))

    def fill(self, what: str, count: int) -> None:
        columns = {
            "waiting": "'todo', null, 0",
            "finished": "'succeeded', null, 1",
            "future": "'todo', now() + interval '1 day', 0",
        }[what]
        self.connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, scheduled_at, attempts)"
            f" SELECT 'default', 'nothing', '{{}}', {columns} FROM generate_series(1, %s)",
            [count],
        )
        if what == "finished":
            self.connection.execute(
                "INSERT INTO procrastinate_events (job_id, type)"
                " SELECT id, type::procrastinate_job_event_type"
                " FROM procrastinate_jobs, unnest(ARRAY['deferred', 'started', 'succeeded']) AS type"
            )
        self.connection.execute("ANALYZE procrastinate_jobs, procrastinate_events")

    def finished(self) -> int:
        found = self.connection.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
            " AND (task_name <> 'steps' OR (args ->> 'place')::int = %s)",
            [STEPS_COUNT],
        ).fetchone()
        return found[0]

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        work = f"from benchmarks.contenders.procrastinate import work; work({threads})"
        return [[sys.executable, "-c", work]] * processes


def application(url: str, size: int, threads: int) -> Any:
    """Return the app with its tasks, which write over a pool of `threads` connections of their own."""
    import asyncio

    import procrastinate
    import psycopg_pool

    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=url, min_size=size, max_size=size)
    )
    own: list[Any] = []

    @app.task(name=NOTHING)
    async def nothing() -> None:
        marks.ran()

    @app.task(name=STEPS)
    async def steps(place: int, value: dict[str, int]) -> None:
        value = {"step": value["step"] + 1}
        if value["step"] != place:
            raise ValueError(f"step {place} was given {value}")
        if place < STEPS_COUNT:
            await steps.defer_async(place=place + 1, value=value)
        marks.ran()

    @app.task(name=STAMP)
    async def stamp(value: int) -> None:
        marks.stamp(value)

    @app.task(name=SLOW)
    async def slow() -> None:
        await asyncio.sleep(1)
        marks.ran()

    @app.task(name=WRITE)
    async def write() -> None:
        if not own:
            own.append(psycopg_pool.AsyncConnectionPool(url, min_size=threads, max_size=threads, open=False))
        await own[0].open()
        async with own[0].connection() as connection:
            await connection.execute("INSERT INTO bench_written (text) VALUES ('written')")
        marks.ran()

    @app.task(name=PAYLOAD)
    async def payload(value: dict[str, str]) -> None:
        await handed.defer_async(value=value)
        marks.ran()

    @app.task(name=HANDED, queue=HANDED)
    async def handed(value: dict[str, str]) -> None:
        """Never run: no worker serves its queue."""

    return app


def work(threads: int) -> None:
    """Run one worker process."""
    app = application(os.environ["BENCH_DATABASE_URL"], CONCURRENCY, threads)
    app.run_worker(concurrency=CONCURRENCY, queues=["default"])
