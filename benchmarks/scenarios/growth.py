"""Whether one worker process stays as fast when the tables grow."""

from benchmarks.contender import NOTHING
from benchmarks.runner import Entrant

TITLE = "Growth: drain rate beside many other rows"
UNIT = "jobs/s"
KINDS = frozenset({NOTHING})
SCALES = True
SECONDS_MAX = 3
VARIANTS = {
    "10,000 waiting": (None, 10_000),
    "100,000 waiting": (None, 100_000),
    "1 million waiting": (None, 1_000_000),
    "1 million finished": (("finished", 1_000_000), 10_000),
    "200,000 future": (("future", 200_000), 10_000),
}
RUN = 10_000


def measure(entrant: Entrant) -> dict[str, float]:
    rates = {}
    for variant, (standing, waiting) in VARIANTS.items():
        entrant.reset()
        if standing is not None:
            entrant.ask("fill", *standing)
        entrant.ask("fill", "waiting", waiting)
        rates[variant] = entrant.rate(RUN, SECONDS_MAX, over=False)
    return rates
