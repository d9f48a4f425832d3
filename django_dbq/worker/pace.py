"""How long the tasks of each job take, to tell how far ahead a worker should claim."""

from __future__ import annotations

WEIGHT = 0.1  # Of the newest sample in the moving average.
GROWTH_MAX = 8  # Of a claim over the one before: few samples may mislead.
CLAIM_SECONDS_MAX = 1.0  # What waits for longer than that behind a task is given back.
CLAIM_BYTES = 4_000_000  # Of the workspaces that one claim should bring: all are in memory at once.


class Pace:
    """Moving averages of task seconds by job name, and the claim size that follows.

    A claim starts at one job. It doubles while what was claimed stays within `target_seconds` of
    expected work, and grows up to eightfold as far as that says; a job name never seen counts as slow.
    Where claims themselves take longer, on a slow network, they are for as much work as that.
    """

    def __init__(self, target_seconds: float, backlog_max: int, slots: int) -> None:
        self._least_seconds = target_seconds
        self._claim_seconds: float | None = None
        self.backlog_max = backlog_max
        self.slots = slots
        self._seconds: dict[str, float] = {}
        self._limit = slots

    @property
    def target_seconds(self) -> float:
        """How much work each thread should have ahead; 0 if none."""
        return self._least_seconds and max(self._least_seconds, self._claim_seconds or 0.0)

    def observe(self, name: str, seconds: float) -> None:
        self._seconds[name] = _averaged(self._seconds.get(name), seconds)

    def quick(self, name: str) -> bool:
        """Tell whether tasks of this name are short enough to keep for this worker unasked."""
        return self._seconds.get(name, self.target_seconds) < self.target_seconds

    def limit(self, backlog: int, idle: int) -> int:
        """Return how many jobs to claim now, with `backlog` waiting and `idle` slots free."""
        if self._limit <= self.slots:
            return max(0, idle - backlog)
        return self._limit if backlog <= self._limit // 4 else 0

    def claimed(self, names: list[str], asked: int, workspace_bytes: int, seconds: float) -> None:
        """Learn from a claim: grow when it was filled by quick jobs, shrink when those are slow or large."""
        seconds = min(seconds, CLAIM_SECONDS_MAX)
        # Down at once: a single one that had to wait says little of the network.
        self._claim_seconds = min(seconds, _averaged(self._claim_seconds, seconds))
        if not names or not self._least_seconds:
            return  # Nothing is to be claimed ahead.
        expected = sum(self._seconds.get(name, self.target_seconds) for name in names) / self.slots
        if expected >= self.target_seconds:
            self._limit = max(self.slots, int(len(names) * self.target_seconds / expected))
        elif len(names) >= asked:
            growth = min(GROWTH_MAX, self.target_seconds / expected) if expected else GROWTH_MAX
            self._limit = min(self.backlog_max, int(max(self._limit, asked) * max(2, growth)))
        if workspace_bytes:
            self._limit = min(self._limit, max(self.slots, len(names) * CLAIM_BYTES // workspace_bytes))

    def slow(self) -> None:
        """Fall back to one job for each slot."""
        self._limit = self.slots


def _averaged(known: float | None, sample: float) -> float:
    return sample if known is None else known + WEIGHT * (sample - known)
