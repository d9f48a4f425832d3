"""How soon an idle worker begins a job: from just before it is added to the task's first line."""

from benchmarks.contender import STAMP
from benchmarks.runner import Entrant, Failed, until

TITLE = "Pickup by an idle worker"
UNIT = "ms"
LESS = True
KINDS = frozenset({STAMP})
SAMPLES = 100
WARM_UP = 5


def measure(entrant: Entrant) -> dict[str, float]:
    entrant.reset()
    with entrant.working():
        entrant.ask("put_spread", STAMP, 0, WARM_UP)
        until(lambda: len(entrant.marks.stamps()) >= WARM_UP, 60, f"{entrant.name}: nothing was picked up")
        asked = entrant.ask("put_spread", STAMP, WARM_UP, SAMPLES)
        until(lambda: len(entrant.marks.stamps()) >= WARM_UP + SAMPLES, 180, f"{entrant.name}: not all ran")
        begun = entrant.marks.stamps()
    moments = dict(enumerate(asked, start=WARM_UP))
    if missing := moments.keys() - begun.keys():
        raise Failed(f"{entrant.name}: {len(missing)} of {SAMPLES} have no stamp")
    waits = sorted(1_000 * (begun[index] - moment) for index, moment in moments.items())
    return {f"p{share}": waits[int(SAMPLES * share / 100)] for share in (50, 95, 99)}
