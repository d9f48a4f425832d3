"""Every error this package raises, under one base. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import timedelta

DELAY_SECONDS_MAX = 3_155_760_000  # A hundred years: every database and calendar holds the sum.


class DBQError(Exception):
    """Base of every error raised by django_dbq."""


class UnknownJob(DBQError, KeyError):
    """Raised when a job is created under a name that JOBS does not have."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = nearest(str(name), known)
        listed = f"JOBS has: {', '.join(known)}." if known else "JOBS is empty."
        self.message = f"JOBS has no job named {name!r}. " + (f"Did you mean {hint!r}?" if hint else listed)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message  # KeyError would show the repr.


class SettingsError(DBQError):
    """Raised when JOBS or DBQ cannot be used; `problems` lists every fault."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class WorkspaceError(DBQError, ValueError):
    """Raised when a workspace or result cannot be written as JSON; names the key."""


class TaskUnavailable(DBQError):
    """Raised when a job's next task may not or cannot be imported. The job is parked."""


class CallError(DBQError, ValueError):
    """Raised when a function call cannot become a job; says which part of it is at fault."""


class BadSignature(DBQError):
    """What a function call fails with whose row is not as it was signed. It is never imported."""


class GroupError(DBQError, ValueError):
    """Raised when a job or group cannot be put together so: what has begun takes in nothing more."""


class ScheduleError(DBQError, ValueError):
    """Raised when a schedule could never be due as it is written; says where the fault is."""


class LeaseLost(DBQError):
    """Raised when a worker tries to write a job that is no longer its own."""


class WorkerLost(DBQError):
    """Given to the failure hook of a job whose attempts were lost too often."""


class TaskTimeout(DBQError):
    """Raised inside a task that ran longer than its `timeout_seconds`."""


class TransactionLeftOpen(DBQError):
    """Raised when a task returned with a transaction still open; its writes are rolled back."""


class Retry(DBQError):
    """Raise in a task: a failed attempt that is tried again after `delay_seconds`.

    It counts as an attempt: with none left the job is FAILED. Raises ValueError for a
    delay that is not a number of seconds from 0 on.
    """

    def __init__(self, delay_seconds: float | timedelta = 0.0, why: str = "") -> None:
        self.delay_seconds = as_seconds(delay_seconds)
        super().__init__(why or f"asked to run again in {self.delay_seconds:g} s")


class Abort(DBQError):
    """Raise in a task: the job is FAILED now, whatever attempts are left."""


def as_seconds(delay: object) -> float:
    """Return a delay, a number of seconds or a timedelta, as seconds. Raises ValueError for others."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds <= DELAY_SECONDS_MAX:  # type: ignore[operator]
        raise ValueError(
            f"a delay is a number of seconds from 0 to {DELAY_SECONDS_MAX}, or a timedelta, not {delay!r}"
        )
    return seconds  # type: ignore[return-value]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `word`, or None when none is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
