"""How long the tasks of each job take, to tell how far ahead a worker should claim."""

from __future__ import annotations

WEIGHT = 0.1  # Of the newest sample in the moving average.
GROWTH_MAX = 8  # Of a claim over the one before: few samples may mislead.
CLAIM_BYTES = 4_000_000  # Of the workspaces that one claim should bring: all are in memory at once.


class Pace:
    """Moving averages of task seconds by job name, and the claim size that follows.

    A claim starts at one job. It doubles while what was claimed stays within `target_seconds` of
    expected work, and grows up to eightfold as far as that says; a job name never seen counts as slow.
    """

    def __init__(self, target_seconds: float, backlog_max: int, slots: int) -> None:
        self.target_seconds = target_seconds
        self.backlog_max = backlog_max
        self.slots = slots
        self._seconds: dict[str, float] = {}
        self._limit = slots

    def observe(self, name: str, seconds: float) -> None:
        known = self._seconds.get(name)
        self._seconds[name] = seconds if known is None else known + WEIGHT * (seconds - known)

    def quick(self, name: str) -> bool:
        """Tell whether tasks of this name are short enough to keep for this worker unasked."""
        return self._seconds.get(name, self.target_seconds) < self.target_seconds

    def limit(self, backlog: int, idle: int) -> int:
        """Return how many jobs to claim now, with `backlog` waiting and `idle` slots free."""
        if self._limit <= self.slots:
            return max(0, idle - backlog)
        return self._limit if backlog <= self._limit // 4 else 0

    def claimed(self, names: list[str], asked: int, workspace_bytes: int) -> None:
        """Learn from a claim: grow when it was filled by quick jobs, shrink when it was slow or large."""
        if not names:
            return
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
