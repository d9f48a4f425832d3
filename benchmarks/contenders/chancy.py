"""chancy, its jobs as coroutines."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from benchmarks import marks
from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, STEPS_COUNT, WRITE, Contender

CONCURRENCY = 300
UPDATE_SECONDS = 0.1
HANDED = "handed"  # Where payloads are handed on to; no worker takes from it.


class Bench(Contender):
    requirements = ("chancy", "psycopg[binary]")
    package = "chancy"
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    settings = (
        f"AsyncExecutor, concurrency {CONCURRENCY}, eager_polling, send_outgoing_interval {UPDATE_SECONDS},"
        " without the metrics and workflow plugins, nothing logged; coroutines in the place of threads;"
        " steps: each pushes the next; a payload is handed on to a job that nobody takes"
    )
    durability = "with the caller's commit"
    history = "a row for each job"
    crash_safety = "heartbeat of the worker: runs again 90 s after the last, as do ended jobs not written yet"

    def __init__(self) -> None:
        super().__init__()
        import psycopg

        self.app = application(self.url)
        self.connection = psycopg.connect(self.url, autocommit=True)

    def prepare(self) -> None:
        async def migrate() -> None:
            async with application(self.url) as app:
                await app.migrate()

        asyncio.run(migrate())
        self.connection.execute("CREATE TABLE bench_written (id bigserial PRIMARY KEY, text text)")

    def reset(self) -> None:
        self.connection.execute("TRUNCATE chancy_jobs, chancy_workers, bench_written")
        self.connection.execute("CHECKPOINT")

    def job(self, kind: str, value: Any) -> Any:
        from chancy import Job

        given = {NOTHING: {}, WRITE: {}, SLOW: {}, STEPS: {"place": 1, "value": {"step": 0}}}
        return Job(func=f"{__name__}.{kind}", kwargs=given.get(kind, {"value": value}))

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        job = self.job(kind, value)
        for _ in self.app.sync_push_many([job] * count):
            pass

    def put(self, kind: str, value: Any = None) -> None:
        self.app.sync_push(self.job(kind, value))

    def finished(self) -> int:
        found = self.connection.execute(
            "SELECT count(*) FROM chancy_jobs WHERE state = 'succeeded'"
            " AND (kwargs ->> 'place' IS NULL OR (kwargs ->> 'place')::int = %s)",
            [STEPS_COUNT],
        ).fetchone()
        return found[0]

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        work = f"import asyncio; from {__name__} import work; asyncio.run(work({threads}))"
        return [[sys.executable, "-c", work]] * processes


def application(url: str) -> Any:
    """Return the app, with the plugins that crash safety needs."""
    import logging

    from chancy import Chancy
    from chancy.plugins.leadership import Leadership
    from chancy.plugins.pruner import Pruner
    from chancy.plugins.recovery import Recovery

    logging.getLogger("chancy").setLevel(logging.WARNING)
    return Chancy(
        url,
        plugins=[Leadership(), Pruner(), Recovery()],
        no_default_plugins=True,
        log=logging.getLogger("chancy"),
        max_connection_pool_size=10,
    )


class Working:
    """What the jobs of a worker process use."""

    app: Any = None
    own: Any = None  # Connections to write over.


async def work(threads: int) -> None:
    """Run one worker process."""
    from chancy import Queue, Worker
    from psycopg_pool import AsyncConnectionPool

    url = os.environ["BENCH_DATABASE_URL"]
    async with (
        application(url) as app,
        AsyncConnectionPool(url, min_size=1, max_size=threads, open=False) as own,
    ):
        Working.app, Working.own = app, own
        await app.declare(
            Queue(
                "default",
                concurrency=CONCURRENCY,
                executor=app.Executor.Async,
                polling_interval=1,
                eager_polling=True,
            ),
            upsert=True,
        )
        worker = Worker(app, shutdown_timeout=5)
        worker.send_outgoing_interval = UPDATE_SECONDS
        async with worker:
            await worker.wait_for_shutdown()


async def nothing() -> None:
    marks.ran()


async def steps(place: int, value: dict[str, int]) -> None:
    from chancy import Job

    value = {"step": value["step"] + 1}
    if value["step"] != place:
        raise ValueError(f"step {place} was given {value}")
    if place < STEPS_COUNT:
        await Working.app.push(Job(func=f"{__name__}.steps", kwargs={"place": place + 1, "value": value}))
    marks.ran()


async def stamp(value: int) -> None:
    marks.stamp(value)


async def slow() -> None:
    await asyncio.sleep(1)
    marks.ran()


async def write() -> None:
    async with Working.own.connection() as connection:
        await connection.execute("INSERT INTO bench_written (text) VALUES ('written')")
    marks.ran()


async def payload(value: dict[str, str]) -> None:
    from chancy import Job

    await Working.app.push(Job(func=f"{__name__}.payload", kwargs={"value": value}, queue=HANDED))
    marks.ran()
