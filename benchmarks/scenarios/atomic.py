"""How fast tasks run that write one row each, in a transaction of their own."""

from benchmarks.contender import WRITE
from benchmarks.runner import Entrant

TITLE = "Atomic: one row written a task"
UNIT = "jobs/s"
KINDS = frozenset({WRITE})
JOBS = 5_000
SECONDS_MAX = 5


def measure(entrant: Entrant) -> dict[str, float]:
    rates = {}
    for threads, variant in ((1, "one thread"), (4, "four threads")):
        entrant.reset()
        entrant.ask("enqueue", WRITE, JOBS)
        rates[variant] = entrant.rate(JOBS, SECONDS_MAX, threads=threads)
    return rates
