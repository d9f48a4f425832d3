"""How fast one process adds jobs: each in a commit of its own, and many at once."""

import time

from benchmarks.contender import NOTHING
from benchmarks.runner import Entrant

TITLE = "Enqueue"
UNIT = "jobs/s"
KINDS = frozenset({NOTHING})
ONE_BY_ONE = 1_000
IN_BULK = 20_000


def measure(entrant: Entrant) -> dict[str, float]:
    entrant.reset()
    entrant.ask("put_many", NOTHING, 10)  # Connected, and everything imported.
    one_by_one = ONE_BY_ONE / entrant.ask("put_many", NOTHING, ONE_BY_ONE)
    began = time.perf_counter()
    entrant.ask("enqueue", NOTHING, IN_BULK)
    return {"one by one": one_by_one, "in bulk": IN_BULK / (time.perf_counter() - began)}
