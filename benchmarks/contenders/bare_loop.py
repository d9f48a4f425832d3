"""A bare psycopg loop that claims and finishes rows of a plain table: as little as Python can do."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from benchmarks import marks
from benchmarks.contender import NOTHING, Contender

BATCH = 100
CLAIM = (
    "UPDATE bare_job SET state = 1 WHERE id IN (SELECT id FROM bare_job WHERE state = 0 ORDER BY id"
    f" LIMIT {BATCH} FOR UPDATE SKIP LOCKED) RETURNING id, workspace"
)
FINISH = "UPDATE bare_job SET state = 2 WHERE id = ANY(%s)"


class Bench(Contender):
    requirements = ("psycopg[binary]",)
    package = "psycopg"
    kinds = frozenset({NOTHING})
    only = frozenset({"drain"})
    settings = f"batches of {BATCH}, two commits a batch"
    durability = "with the caller's commit"
    history = "a row for each job"
    crash_safety = "none: the batch stays claimed"

    def sql(self, statement: str, *values: Any) -> Any:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else None

    def prepare(self) -> None:
        self.sql(
            "CREATE TABLE bare_job"
            " (id bigserial PRIMARY KEY, state smallint NOT NULL, workspace jsonb NOT NULL)"
        )
        self.sql("CREATE INDEX bare_job_waiting ON bare_job (id) WHERE state = 0")

    def reset(self) -> None:
        self.sql("TRUNCATE bare_job")
        self.sql("CHECKPOINT")

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        self.sql("INSERT INTO bare_job (state, workspace) SELECT 0, '{}' FROM generate_series(1, %s)", count)
        self.sql("ANALYZE bare_job")

    def finished(self) -> int:
        return int(self.sql("SELECT count(*) FROM bare_job WHERE state = 2")[0][0])

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        return [[sys.executable, "-m", "benchmarks.contenders.bare_loop"]] * (processes * threads)


def work() -> None:
    """Claim and finish until ended."""
    import psycopg

    with psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True) as connection:
        while True:
            rows = connection.execute(CLAIM).fetchall()
            for _ in rows:
                marks.ran()
            if rows:
                connection.execute(FINISH, [[row[0] for row in rows]])
            else:
                time.sleep(0.01)


if __name__ == "__main__":
    work()
