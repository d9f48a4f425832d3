"""dramatiq, with Redis."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.contenders._redis import RedisBench


class Bench(RedisBench):
    requirements = ("dramatiq[redis]==2.*", "hiredis", "psycopg[binary]")
    package = "dramatiq"
    environ: ClassVar = {"dramatiq_queue_prefetch": "1000", "dramatiq_worker_timeout": "10"}
    settings = "prefetch 1,000, worker timeout 10 ms; hiredis; it has no bulk enqueue; hand-made chains"
    crash_safety = "acknowledged after it ran: runs again once the worker has been silent for a minute"

    def send(self, kind: str, args: tuple[Any, ...]) -> None:
        from benchmarks.contenders import _dramatiq_app

        getattr(_dramatiq_app, kind).send(*args)

    def left(self) -> int:
        left: int = self.server.hlen("dramatiq:default.msgs")  # Until each is acknowledged.
        return left

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        app = "benchmarks.contenders._dramatiq_app"
        return [["dramatiq", app, "--processes", str(processes), "--threads", str(threads)]]
