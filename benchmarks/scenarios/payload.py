"""How fast one worker process takes and hands on objects of a kilobyte and of a hundred."""

from benchmarks.contender import PAYLOAD
from benchmarks.runner import Entrant

TITLE = "Payload: an object handed on"
UNIT = "jobs/s"
KINDS = frozenset({PAYLOAD})
SECONDS_MAX = 5
VARIANTS = {"1 kB": (1_000, 5_000), "100 kB": (100_000, 500)}


def measure(entrant: Entrant) -> dict[str, float]:
    rates = {}
    for variant, (size, jobs) in VARIANTS.items():
        entrant.reset()
        entrant.ask("enqueue", PAYLOAD, jobs, {"text": "x" * size})
        rates[variant] = entrant.rate(jobs, SECONDS_MAX)
    return rates
