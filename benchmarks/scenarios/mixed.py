"""How long quick jobs wait when one in a hundred takes a second: a hundred a second, four threads."""

from benchmarks.contender import SLOW, STAMP
from benchmarks.runner import Entrant, Failed, until

TITLE = "Mixed: the wait of quick jobs beside slow ones"
UNIT = "ms"
LESS = True
KINDS = frozenset({SLOW, STAMP})
THREADS = 4
JOBS = 1_500
EVERY = 100  # Of them one is slow.
A_SECOND = 100


def measure(entrant: Entrant) -> dict[str, float]:
    entrant.reset()
    with entrant.working(threads=THREADS):
        entrant.ask("put_spread", STAMP, -1, 1)
        until(lambda: -1 in entrant.marks.stamps(), 60, f"{entrant.name}: nothing was picked up")
        asked = entrant.ask("put_mixed", JOBS, EVERY, 1 / A_SECOND)
        quick = {index: moment for index, moment in enumerate(asked) if index % EVERY != EVERY // 2}
        until(lambda: entrant.marks.counted()[0] > JOBS, 60, f"{entrant.name}: not all ran")
        begun = entrant.marks.stamps()
    if missing := quick.keys() - begun.keys():
        raise Failed(f"{entrant.name}: {len(missing)} quick jobs have no stamp")
    waits = sorted(1_000 * (begun[index] - moment) for index, moment in quick.items())
    return {f"p{share}": waits[int(len(waits) * share / 100)] for share in (50, 99)}
