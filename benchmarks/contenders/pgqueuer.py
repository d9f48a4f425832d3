"""pgqueuer on asyncpg and uvloop, claiming a hundred jobs at a time."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from benchmarks import marks
from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, STEPS_COUNT, WRITE, Contender

BATCH = 100
CONNECTIONS = 10  # For what tasks enqueue.
IN_BULK = 1_000
HANDED = "handed"  # Where payloads are handed on to; no worker takes from it.


class Bench(Contender):
    requirements = ("pgqueuer[asyncpg]",)
    package = "pgqueuer"
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    scales = True
    settings = (
        "asyncpg, uvloop, --batch-size 100, its autovacuum settings; coroutines without a limit in the"
        " place of threads; steps: each enqueues the next,"
        " over a pool of 10 connections; a payload is handed on to a job that nobody takes"
    )
    durability = "with the caller's commit"
    history = "a row in its log for each job, without the payload"
    crash_safety = "heartbeat: runs again elsewhere, 30 s after the last"

    def __init__(self) -> None:
        super().__init__()
        import asyncpg
        import uvloop
        from pgqueuer import Queries

        self.loop = uvloop.new_event_loop()
        self.connection = self.wait(asyncpg.connect(self.url))
        self.queries = Queries.from_asyncpg_connection(self.connection)

    def wait(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def prepare(self) -> None:
        self.wait(self.queries.install())
        self.wait(self.queries.optimize_autovacuum())
        self.wait(self.connection.execute("CREATE TABLE bench_written (id bigserial PRIMARY KEY, text text)"))

    def reset(self) -> None:
        self.wait(
            self.connection.execute("TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics, bench_written")
        )
        self.wait(self.connection.execute("CHECKPOINT"))

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        given = {NOTHING: None, WRITE: None, STEPS: [1, {"step": 0}]}.get(kind, value)
        payload = None if given is None else json.dumps(given).encode()
        for start in range(0, count, IN_BULK):
            size = min(IN_BULK, count - start)
            self.wait(self.queries.enqueue([kind] * size, [payload] * size, [0] * size))

    def put(self, kind: str, value: Any = None) -> None:
        self.wait(self.queries.enqueue(kind, None if value is None else json.dumps(value).encode()))

    def fill(self, what: str, count: int) -> None:
        if what == "finished":
            statement = (
                "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint, aggregated)"
                " SELECT number, 'successful', 0, 'nothing', true"
                " FROM generate_series(1, $1::bigint) AS number"
            )
        else:
            statement = (
                "INSERT INTO pgqueuer (priority, status, entrypoint, execute_after)"
                f" SELECT 0, 'queued', 'nothing', now() + interval '{'1 day' if what == 'future' else '0'}'"
                " FROM generate_series(1, $1::bigint)"
            )
        self.wait(self.connection.execute(statement, count))
        self.wait(self.connection.execute("ANALYZE pgqueuer, pgqueuer_log"))

    def finished(self) -> int:
        statement = (
            "SELECT count(*) FILTER (WHERE entrypoint <> 'steps')"
            f" + count(*) FILTER (WHERE entrypoint = 'steps') / {STEPS_COUNT}"
            " FROM pgqueuer_log WHERE status = 'successful'"
        )
        count: int = self.wait(self.connection.fetchval(statement))
        return count

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        work = f"from benchmarks.contenders.pgqueuer import work; work({threads})"
        return [[sys.executable, "-c", work]] * processes


def work(threads: int) -> None:
    """Run one worker process; its tasks write over as many connections of their own as there are threads."""
    import asyncio
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    import asyncpg
    import pgqueuer
    import uvloop
    from pgqueuer import Job, PgQueuer, Queries

    url = os.environ["BENCH_DATABASE_URL"]

    @asynccontextmanager
    async def worker() -> AsyncIterator[PgQueuer]:
        connection = await asyncpg.connect(url)
        async with (
            asyncpg.create_pool(url, min_size=0, max_size=CONNECTIONS) as chained,
            asyncpg.create_pool(url, min_size=0, max_size=threads) as own,
        ):
            app = PgQueuer.from_asyncpg_connection(connection)
            enqueue = Queries.from_asyncpg_pool(chained).enqueue

            @app.entrypoint(NOTHING)
            async def nothing(job: Job) -> None:
                marks.ran()

            @app.entrypoint(STEPS)
            async def steps(job: Job) -> None:
                place, value = json.loads(job.payload)
                value = {"step": value["step"] + 1}
                if value["step"] != place:
                    raise ValueError(f"step {place} was given {value}")
                if place < STEPS_COUNT:
                    await enqueue(STEPS, json.dumps([place + 1, value]).encode())
                marks.ran()

            @app.entrypoint(STAMP)
            async def stamp(job: Job) -> None:
                marks.stamp(json.loads(job.payload))

            @app.entrypoint(SLOW)
            async def slow(job: Job) -> None:
                await asyncio.sleep(1)
                marks.ran()

            @app.entrypoint(WRITE)
            async def write(job: Job) -> None:
                await own.execute("INSERT INTO bench_written (text) VALUES ('written')")
                marks.ran()

            @app.entrypoint(PAYLOAD)
            async def payload(job: Job) -> None:
                await enqueue(HANDED, json.dumps(json.loads(job.payload)).encode())
                marks.ran()

            yield app

    uvloop.run(pgqueuer.run(worker, batch_size=BATCH))
