"""How fast old jobs are deleted, and what that costs the claims made meanwhile.

Run with `python -m benchmarks.prune`: 200,000 finished jobs with their history, 100,000 that wait.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

from benchmarks import harness
from benchmarks.contenders.ours import Bench

FINISHED = 200_000
WAITING = 100_000
CLAIM = 10
WANTED_A_MINUTE = 100_000


def claims(done: threading.Event | None, seconds: float) -> list[float]:
    """Claim a few jobs again and again, until `done` or for so long; return the milliseconds of each."""
    from django_dbq.store import get_store

    store = get_store("default")
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until and not (done and done.is_set()):
        began = time.perf_counter()
        jobs = store.claim(["default"], worker="bench", limit=CLAIM, lease_seconds=60)
        took.append(1_000 * (time.perf_counter() - began))
        if len(jobs) < CLAIM:
            raise SystemExit("no jobs are left to claim: make WAITING larger")
        time.sleep(0.01)
    return took


def at(took: list[float]) -> str:
    """Return the median and the 99th percentile."""
    return f"{statistics.median(took):.1f} and {statistics.quantiles(took, n=100)[98]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    harness.prepare()
    print(harness.versions(), flush=True)
    from django.db import connection

    from django_dbq.models import Job

    tables = Bench.__new__(Bench)  # Its fill, without its own connection.
    ratios, rates = [], []
    for _ in range(options.rounds):
        harness.empty_tables()
        tables.fill("finished", FINISHED)
        tables.fill("waiting", WAITING)
        before = claims(None, 5)
        done = threading.Event()
        rate = 0.0

        def prune(done: threading.Event = done) -> None:
            nonlocal rate
            began = time.perf_counter()
            deleted = Job.objects.delete_old(hours=0)
            rate = 60 * deleted / (time.perf_counter() - began)
            connection.close()
            done.set()

        thread = threading.Thread(target=prune)
        thread.start()
        during = claims(done, 120)
        thread.join()
        rates.append(rate)
        ratios.append(statistics.median(during) / statistics.median(before))
        print(
            f"{rate:,.0f} jobs deleted a minute; a claim of {CLAIM}, median and p99 in ms:"
            f" {at(before)} before, {at(during)} during",
            flush=True,
        )
    print(f"deleted a minute   {harness.spread(rates)} (wanted: {WANTED_A_MINUTE:,})")
    print(f"claims slower by   {statistics.median(ratios):.2f}x (wanted: under 2x)")


if __name__ == "__main__":
    main()
