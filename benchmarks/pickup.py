"""How soon an idle worker begins a job: from just before the create to the task's first line.

Run with `python -m benchmarks.pickup`.
"""

from __future__ import annotations

import argparse
import random
import time

from benchmarks import harness


def pickup(samples: int) -> list[float]:
    """Return, in milliseconds and sorted, how long each of `samples` jobs waited."""
    from django_dbq.models import Job

    harness.empty_tables()
    asked = {}
    with harness.worker() as process:
        first = Job.objects.create(name="stamp")
        deadline = time.monotonic() + 30
        while not Job.objects.filter(pk=first.pk, state="COMPLETE").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the worker did not start")
            time.sleep(0.05)
        for _ in range(samples):
            time.sleep(random.uniform(0.05, 0.1))
            now = time.time()
            asked[Job.objects.create(name="stamp").pk] = now
        while Job.objects.exclude(state="COMPLETE").exists() and time.monotonic() < deadline + 60:
            time.sleep(0.05)
    return sorted(1000 * (job.result - asked[job.pk]) for job in Job.objects.filter(pk__in=asked))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    harness.prepare()
    print(harness.versions(), flush=True)
    waits = pickup(options.samples)
    if len(waits) != options.samples:
        raise SystemExit(f"only {len(waits)} of {options.samples} jobs ran")
    at = {share: waits[min(len(waits) - 1, int(len(waits) * share / 100))] for share in (50, 95, 99)}
    print(
        f"idle pickup, {len(waits)} samples: p50 {at[50]:.1f} ms, p95 {at[95]:.1f} ms, p99 {at[99]:.1f} ms"
        f" (wanted: p99 under 20 ms), longest {waits[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
