"""How large an idle worker process is, and after a hundred thousand jobs."""

import time

from benchmarks.contender import NOTHING
from benchmarks.runner import Entrant, until

TITLE = "Memory: all processes of one worker"
UNIT = "MB"
LESS = True
KINDS = frozenset({NOTHING})
JOBS = 100_000
SECONDS_MAX = 30  # Who has not done them by then is measured after those it did.
SETTLE_SECONDS = 5


def measure(entrant: Entrant) -> dict[str, float]:
    entrant.reset()
    with entrant.working() as running:
        time.sleep(SETTLE_SECONDS)
        idle = sum(entrant.resident_bytes(process.pid) for process in running)
        entrant.ask("enqueue", NOTHING, JOBS)
        deadline = time.monotonic() + SECONDS_MAX
        until(lambda: entrant.marks.counted()[0] >= JOBS or time.monotonic() > deadline, 60, "")
        after = sum(entrant.resident_bytes(process.pid) for process in running)
    return {"idle": idle / 1e6, "after 100,000 jobs": after / 1e6}
