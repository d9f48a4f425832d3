"""How large an idle worker process is, and after a hundred thousand jobs."""

import time

from benchmarks.contender import NOTHING
from benchmarks.runner import Entrant, until

TITLE = "Memory: all processes of one worker"
UNIT = "MB"
LESS = True
KINDS = frozenset({NOTHING})
JOBS = 100_000
BATCH = 5_000  # Added at a time.
SECONDS_MAX = 20  # Who has not done them by then has only the first figure.
SETTLE_SECONDS = 5


def done(entrant: Entrant, jobs: int) -> bool:
    """Tell whether so many have run; a few may still wait, so that a batch never finds a worker idle."""
    return entrant.marks.counted()[0] >= jobs - BATCH // 2


def measure(entrant: Entrant) -> dict[str, float]:
    entrant.reset()
    with entrant.working() as running:
        time.sleep(SETTLE_SECONDS)
        entrant.check(running)
        idle = sum(entrant.resident_bytes(process.pid) for process in running)
        deadline = time.monotonic() + SECONDS_MAX
        for asked in range(BATCH, JOBS + 1, BATCH):
            entrant.ask("enqueue", NOTHING, BATCH)
            until(lambda asked=asked: done(entrant, asked) or time.monotonic() > deadline, 60, "")
            if time.monotonic() > deadline:
                break
        entrant.check(running)
        after = sum(entrant.resident_bytes(process.pid) for process in running)
        if not done(entrant, JOBS):
            return {"idle": idle / 1e6}
    return {"idle": idle / 1e6, "after 100,000 jobs": after / 1e6}
