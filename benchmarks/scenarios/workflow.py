"""How fast one worker process runs jobs of five steps, each of which is durable and hands an object on."""

from benchmarks.contender import STEPS, STEPS_COUNT
from benchmarks.runner import Entrant

TITLE = "Workflow: five durable steps a job"
UNIT = "steps/s"
KINDS = frozenset({STEPS})
JOBS = 4_000
SECONDS_MAX = 6


def measure(entrant: Entrant) -> dict[str, float]:
    entrant.reset()
    entrant.ask("enqueue", STEPS, JOBS)
    return {"one process": STEPS_COUNT * entrant.rate(JOBS, SECONDS_MAX, tasks=STEPS_COUNT)}
