"""huey, with Redis."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders._redis import RedisBench


class Bench(RedisBench):
    requirements = ("huey==3.*", "redis[hiredis]", "psycopg[binary]")
    package = "huey"
    settings = (
        "huey_consumer -k thread -q, a consumer a process; hiredis; it has no bulk enqueue; hand-made chains"
    )
    crash_safety = "none: a task leaves Redis before it runs"

    def send(self, kind: str, args: tuple[Any, ...]) -> None:
        from benchmarks.contenders import _huey_app

        getattr(_huey_app, kind)(*args)

    def left(self) -> int:
        from benchmarks.contenders._huey_app import huey

        return len(huey)

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        consumer = [
            "huey_consumer",
            "benchmarks.contenders._huey_app.huey",
            "-q",
            "-k",
            "thread",
            "-w",
            str(threads),
        ]
        return [consumer] * processes
