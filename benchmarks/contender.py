"""What every contender has to say and do, and the process that does it in its own environment.

`python -m benchmarks.contender NAME` reads requests from its standard input, a JSON object a
line, and answers each on its standard output. Standard library only, but for what the
contender itself imports.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

# What a job may do. Each contender has its own way to say it; all are measured doing the same.
NOTHING = "nothing"  # One task that returns.
STEPS = "steps"  # Five tasks; each gets the object of the one before and hands it on, durably.
STAMP = "stamp"  # Notes when it began: `value` is its number.
SLOW = "slow"  # Sleeps for a second, in the way of waiting that its documentation shows.
WRITE = "write"  # Inserts one row into the table bench_written, in a transaction of the task's own.
PAYLOAD = "payload"  # Takes `value`, an object with one long text, and hands it on.

STEPS_COUNT = 5


class Contender(ABC):
    """One system under measurement. Its methods run in the contender's own environment."""

    requirements: ClassVar[Sequence[str]] = ()  # For pip.
    package: ClassVar[str] = ""  # Whose version is shown.
    redis: ClassVar[bool] = False  # Whether it needs one.
    environ: ClassVar[Mapping[str, str]] = {}  # Of its processes.
    kinds: ClassVar[frozenset[str]] = frozenset()  # Of jobs that it can be asked for.
    scales: ClassVar[bool] = False  # Whether `fill` is there.
    only: ClassVar[frozenset[str]] = frozenset()  # Scenarios, where not all that its kinds allow.
    marks: ClassVar[bool] = True  # Whether its tasks count themselves; if not, `span` is there.
    settings: ClassVar[str] = ""  # What was set for speed, for the report.
    durability: ClassVar[str] = ""  # When an enqueued job survives a power failure.
    history: ClassVar[str] = ""  # What is kept of a finished job.
    crash_safety: ClassVar[str] = ""  # What becomes of a job whose worker is killed.

    def __init__(self) -> None:
        self.url = os.environ["BENCH_DATABASE_URL"]
        self.redis_url = os.environ.get("BENCH_REDIS_URL", "")

    def prepare(self) -> None:
        """Make the tables in an empty database."""

    @abstractmethod
    def reset(self) -> None:
        """Leave everything as young as a new installation has it."""

    @abstractmethod
    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        """Add so many jobs in the fastest documented way."""

    def put(self, kind: str, value: Any = None) -> None:
        """Add one job, committed when this returns."""
        raise NotImplementedError

    def put_many(self, kind: str, count: int) -> float:
        """Add jobs one by one; return the seconds that it took."""
        began = time.perf_counter()
        for _ in range(count):
            self.put(kind)
        return time.perf_counter() - began

    def put_spread(self, kind: str, start: int, count: int) -> list[float]:
        """Add numbered jobs, 50 to 100 ms apart; return the moment just before each."""
        moments = []
        for index in range(start, start + count):
            time.sleep(random.uniform(0.05, 0.1))
            moments.append(time.time())
            self.put(kind, index)
        return moments

    def put_mixed(self, count: int, every: int, seconds: float) -> list[float]:
        """Add numbered jobs, so many seconds apart, of which one in `every` is slow."""
        moments = []
        began = time.monotonic()
        for index in range(count):
            time.sleep(max(0.0, began + index * seconds - time.monotonic()))
            moments.append(time.time())
            self.put(SLOW if index % every == every // 2 else STAMP, index)
        return moments

    def fill(self, what: str, count: int) -> None:
        """Add jobs by SQL: `waiting` ones that do nothing, `finished` ones, `future` ones due in a day."""
        raise NotImplementedError

    @abstractmethod
    def finished(self) -> int:
        """Return how many jobs are over, by the contender's own records."""

    def span(self) -> tuple[float, float]:
        """Return when the first job began and the last was over, by its own records, as Unix times."""
        raise NotImplementedError

    @abstractmethod
    def workers(self, processes: int, threads: int) -> list[list[str]]:
        """Return the commands that run so many worker processes of so many threads."""


def load(name: str) -> type[Contender]:
    """Return the contender of that file name; its module imports nothing of the contender's."""
    contender: type[Contender] = import_module(f"benchmarks.contenders.{name}").Bench
    return contender


def main() -> None:
    contender = load(sys.argv[1])()
    answers, sys.stdout = sys.stdout, sys.stderr  # Nothing else is to be heard.
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(contender, request["do"])(*request["with"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
