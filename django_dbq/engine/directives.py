"""What a task may return to steer its job. `Retry` and `Abort`, which are raised, are in exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django_dbq.exceptions import as_seconds


@dataclass(frozen=True, slots=True)
class Snooze:
    """Return from a task: run the same task again in `delay_seconds`; no attempt is used.

    Raises ValueError for a delay that is not a number of seconds from 0 on.
    """

    delay_seconds: float | timedelta

    def __post_init__(self) -> None:
        object.__setattr__(self, "delay_seconds", as_seconds(self.delay_seconds))


@dataclass(frozen=True, slots=True)
class Finish:
    """Return from a task: the job is COMPLETE now; tasks that would follow do not run.

    `result` replaces `job.result` unless it is None.
    """

    result: Any = None


@dataclass(frozen=True, slots=True)
class GoTo:
    """Return from a task: the job goes on at `task`, a path in this job's own list.

    Of a path that stands more than once, the next one after the present task is
    meant, or else the first.
    """

    task: str
