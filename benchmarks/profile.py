"""Where the time of a job that does nothing goes: by statement, and by function.

Run with `python -m benchmarks.profile`. One thread does what a worker's two do, so that each part can be
timed alone: claim a batch, run it, record it. The bodies of statements are timed apart from the Python
around them.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness, marks

WORKER = "profile"


class Stopwatch:
    """Seconds by part: of this thread's processor, and of the statements, on which the server works."""

    def __init__(self) -> None:
        self.python: Counter[str] = Counter()
        self.statements: Counter[str] = Counter()
        self._part = ""

    def part(self, name: str, run: Callable[[], Any]) -> Any:
        self._part = name
        began = time.thread_time()
        found = run()
        self.python[name] += time.thread_time() - began
        return found

    def statement(self, execute: Any, *args: Any) -> Any:
        """Time a statement: a wrapper in the sense of Django's `execute_wrapper`."""
        began = time.perf_counter()
        found = execute(*args)
        self.statements[self._part] += time.perf_counter() - began
        return found


def pass_through(jobs: int, batch: int, watch: Stopwatch, profile: cProfile.Profile | None = None) -> None:
    """Take so many jobs through a claim, a run and a record each."""
    from django.db import connection

    from django_dbq import conf
    from django_dbq.models import Job
    from django_dbq.store import get_store
    from django_dbq.worker.executor import Executor
    from django_dbq.worker.log import log_attempt

    harness.empty_tables()
    Job.objects.enqueue_many("nothing", ({} for _ in range(jobs)))
    store, lease = get_store("default"), conf.options().LEASE_SECONDS
    # A worker's tasks have a connection of their own, which is closed after each, by Django's default.
    connection.close_at = None
    store.prepare_session(lease)
    executor = Executor("default", WORKER)
    executor.starts_clean = True

    def claim() -> list[Job]:
        return store.claim(["default"], worker=WORKER, limit=batch, lease_seconds=lease)

    with connection.execute_wrapper(watch.statement):
        while claimed := watch.part("claim", claim):
            if profile is not None:
                profile.enable()
            attempts = watch.part("run", lambda claimed=claimed: [executor.run(job) for job in claimed])
            if profile is not None:
                profile.disable()
            transitions = [attempt.transition for attempt in attempts]
            states = watch.part(
                "record",
                lambda transitions=transitions: store.record(transitions, worker=WORKER, lease_seconds=lease),
            )
            watch.part(
                "note and log",
                lambda attempts=attempts, states=states: [
                    (attempt.note(states), log_attempt(attempt)) for attempt in attempts
                ],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=250)
    options = parser.parse_args()
    marks.prepare(Path(".cache/profile.marks"))
    harness.prepare()
    print(harness.versions(), flush=True)
    pass_through(options.jobs // 4, options.batch, Stopwatch())  # Everything imported, every plan made.
    watch = Stopwatch()
    pass_through(options.jobs, options.batch, watch)
    total = watch.python.total() + watch.statements.total()
    print(f"\nmicroseconds a job, of {options.jobs:,} in batches of {options.batch}\n")
    print("| part | statement | Python | share |\n|---|---|---|---|")
    for part, python in watch.python.items():
        statement = watch.statements[part]
        each = [1e6 * value / options.jobs for value in (statement, python)]
        print(f"| {part} | {each[0]:.1f} | {each[1]:.1f} | {100 * (statement + python) / total:.0f} % |")
    each = [1e6 * value.total() / options.jobs for value in (watch.statements, watch.python)]
    print(f"| all | {each[0]:.1f} | {each[1]:.1f} | 100 % |")
    profile = cProfile.Profile()
    pass_through(options.jobs // 4, options.batch, Stopwatch(), profile)
    print("\nwithin `run`, by function (cProfile: shares, not times)\n")
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # Missing from the stubs.
    whole = sum(own for _, _, own, _, _ in stats.values())
    print("| function | own time |\n|---|---|")
    for (file, _, name), (_, _, own, _, _) in sorted(stats.items(), key=lambda item: -item[1][2])[:12]:
        print(f"| `{Path(file).stem}.{name}` | {100 * own / whole:.0f} % |")


if __name__ == "__main__":
    main()
