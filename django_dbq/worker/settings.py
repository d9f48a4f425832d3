"""What a worker was asked to do: the command's arguments, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    using: str
    queue_names: tuple[str, ...] = ("default",)
    threads: int = 1
    burst: bool = False
    max_jobs: int | None = None
    rate_limit_seconds: float = 0.0
    grace_seconds: float | None = None  # For running tasks, once asked to stop; None: what they need.
    rss_bytes_max: int | None = None
    job_ids: tuple[Any, ...] | None = None  # Only these, in this order; then exit.
    stop_at_failure: bool = False  # And exit with 1, running one job at a time.
    save_limit: int = 0  # Successes of its queues that are kept, beside what DBQ says; 0: all.
    save_limit_per: str | None = None  # The column whose values are counted apart; None: all together.
