"""Celery, with Redis."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders._redis import RedisBench


class Bench(RedisBench):
    requirements = ("celery[redis]==5.*", "hiredis", "psycopg[binary]")
    package = "celery"
    settings = (
        "solo pool, a worker a process (threads pool for more than one thread); prefetch multiplier 128;"
        " results ignored; no rate limits, gossip, mingle, heartbeat; hiredis; no bulk enqueue;"
        " hand-made chains"
    )
    crash_safety = "acknowledged before it runs: a running one is lost, a waiting one runs after an hour"

    def flush(self) -> None:
        # Not the bindings: a running client takes it that they are there.
        for key in self.server.scan_iter(count=10_000):
            if not key.startswith(b"_kombu"):
                self.server.delete(key)

    def send(self, kind: str, args: tuple[Any, ...]) -> None:
        from benchmarks.contenders import _celery_app

        getattr(_celery_app, kind).apply_async(args)

    def left(self) -> int:
        left: int = self.server.llen("celery") + self.server.hlen("unacked")
        return left

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        app = ["celery", "-A", "benchmarks.contenders._celery_app", "worker", "--loglevel", "WARNING"]
        pool = ["--pool", "solo"] if threads == 1 else ["--pool", "threads", "--concurrency", str(threads)]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return [[*app, *pool, *quiet, "--hostname", f"{number}@%h"] for number in range(processes)]
