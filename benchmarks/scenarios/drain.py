"""How fast workers empty a full queue of jobs that do nothing."""

from benchmarks.contender import NOTHING
from benchmarks.runner import Entrant

TITLE = "Drain: jobs that do nothing"
UNIT = "jobs/s"
KINDS = frozenset({NOTHING})
JOBS = 20_000
SECONDS_MAX = 6  # By then the rate of a slow one is known.


def measure(entrant: Entrant) -> dict[str, float]:
    rates = {}
    for processes, variant in ((1, "one process"), (2, "two processes")):
        entrant.reset()
        entrant.ask("enqueue", NOTHING, JOBS)
        rates[variant] = entrant.rate(JOBS, SECONDS_MAX, processes)
    return rates
