"""What the contenders that keep their jobs in Redis share."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from typing import Any, ClassVar

from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, STEPS_COUNT, WRITE, Contender

_local = threading.local()


def connection() -> Any:
    """Return this thread's own connection to PostgreSQL, which commits each statement."""
    if not hasattr(_local, "connection"):
        import psycopg

        _local.connection = psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True)
    return _local.connection


def write() -> None:
    """Insert a row in a transaction of its own."""
    connection().execute("INSERT INTO bench_written (text) VALUES ('written')")


def last(place: int, value: dict[str, int]) -> bool:
    """Tell whether a step is the last. Raises ValueError when the object did not come through all."""
    if place == STEPS_COUNT and value["step"] != STEPS_COUNT:
        raise ValueError(f"step {value['step']} of {STEPS_COUNT}")
    return place == STEPS_COUNT


class RedisBench(Contender):
    redis = True
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    durability: ClassVar = (
        "at the next snapshot, by Redis's defaults: a minute after 10,000 changes, 5 minutes after 100,"
        " an hour after 1, no append-only file"
    )
    history: ClassVar = "none, but for what a task returns"

    def __init__(self) -> None:
        super().__init__()
        import redis

        self.server = redis.Redis.from_url(self.redis_url)
        self.enqueued = 0

    def prepare(self) -> None:
        connection().execute("CREATE TABLE bench_written (id bigserial PRIMARY KEY, text text)")

    def reset(self) -> None:
        self.flush()
        connection().execute("TRUNCATE bench_written")
        self.enqueued = 0

    def flush(self) -> None:
        """Empty Redis."""
        self.server.flushdb()

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        for _ in range(count):
            self.put(kind, value)

    def put(self, kind: str, value: Any = None) -> None:
        self.send(kind, (1, {"step": 0}) if kind == STEPS else () if value is None else (value,))
        self.enqueued += 1

    @abstractmethod
    def send(self, kind: str, args: tuple[Any, ...]) -> None:
        """Hand one job to the broker."""

    def finished(self) -> int:
        return self.enqueued - self.left()

    @abstractmethod
    def left(self) -> int:
        """Return how many jobs Redis still holds."""
