"""The transition table: from a job and the outcome of one attempt to the row's next values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.workflow import SMALLINT_MAX, locate


class State(enum.StrEnum):
    """Where a job is in its life."""

    NEW = "NEW"
    READY = "READY"
    PROCESSING = "PROCESSING"
    STOPPING = "STOPPING"
    WAITING = "WAITING"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ONCE = RetryPolicy()
DUE_STATES = (State.NEW, State.READY)
UNBEGUN_STATES = (*DUE_STATES, State.WAITING)
HELD_STATES = (State.PROCESSING, State.STOPPING)
UNFINISHED_STATES = (*UNBEGUN_STATES, *HELD_STATES)
FINISHED_STATES = (State.COMPLETE, State.FAILED, State.CANCELLED)


class JobView(Protocol):
    """What the rules read of a job."""

    id: Any
    claim: int
    name: str
    next_task: str
    position: int
    attempt: int
    lost_attempts: int
    priority: int
    prior_state: str  # NEW or READY: the state that the claim found.


# Outcomes: what one attempt, or a claim that never became one, came to.


@dataclass(frozen=True, slots=True)
class Done:
    """The task returned."""

    kind = "done"


@dataclass(frozen=True, slots=True)
class Finished:
    """The task returned Finish: the job is complete."""

    kind = "finish"


@dataclass(frozen=True, slots=True)
class WentTo:
    """The task returned GoTo."""

    task: str
    kind = "goto"


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The task returned Snooze."""

    delay_seconds: float
    kind = "snooze"


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt raised. `delay_seconds` is the wait the task asked for; None: the policy's."""

    error: str
    may_retry: bool = True
    delay_seconds: float | None = None
    kind = "failed"


@dataclass(frozen=True, slots=True)
class Lost:
    """The job's workers died too often."""

    error: str
    kind = "lost"


@dataclass(frozen=True, slots=True)
class Parked:
    """This worker may not or cannot import the task: nothing ran."""

    error: str
    delay_seconds: float
    kind = "parked"


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The worker claimed the job and did not begin or did not finish it, by its own choice."""

    kind = "given_back"


@dataclass(frozen=True, slots=True)
class CutOff:
    """The task returned, and its transaction ended before the commit: a lost attempt, of a living worker."""

    error: str
    kind = "cut_off"


Outcome = Done | Finished | WentTo | Snoozed | Failed | Lost | Parked | GivenBack | CutOff
UNSUCCESSFUL = (Failed.kind, Lost.kind, CutOff.kind)  # Outcomes in the history.


@dataclass(slots=True)
class Run:
    """One attempt, for the history. Times are seconds counted back from the record."""

    task: str
    position: int
    attempt: int
    outcome: str
    began: float  # time.monotonic() of this process
    seconds: float
    error: str | None = None
    changes: str | None = None  # JSON text


@dataclass(slots=True)
class Transition:
    """The change of one row, guarded by `claim`. None leaves a column as it is."""

    job_id: Any
    claim: int
    state: State
    next_task: str
    position: int
    attempt: int
    lost_attempts: int
    outcome: str
    delay_seconds: float | None = None
    error: str | None = None
    workspace: str | None = None  # JSON text
    result: str | None = None  # JSON text
    priority: int | None = None
    hold: bool = False  # The same worker goes on with the next task under the next claim.
    run: Run | None = None
    follower: Any = None  # A new job, to be inserted with the record of this success.

    @property
    def finished(self) -> bool:
        return self.state in FINISHED_STATES

    def keep(self) -> None:
        """Make this READY job stay with its worker: its next attempt begins under the next claim."""
        assert self.goes_on
        self.hold, self.state, self.attempt = True, State.PROCESSING, self.attempt + 1

    @property
    def goes_on(self) -> bool:
        """Whether the job could run again at once."""
        return self.state is State.READY and not self.delay_seconds


def decide(
    job: JobView,
    outcome: Outcome,
    plan: Sequence[str] = (),
    retry: RetryPolicy = ONCE,
    chance: float = 0.0,
) -> Transition:
    """Return the transition that `outcome` causes.

    `plan` is the job's list of tasks, `retry` the policy of the present task, and
    `chance` a random number in [0, 1) for its jitter. What ends a job or gives it back asks for none of them.
    """

    # The two that end nearly every task come first: a quick one is noticed by what is built here.
    if isinstance(outcome, (Done, Finished)):
        if isinstance(outcome, Done) and job.position + 1 < len(plan):
            return _begin(job, outcome, plan, job.position + 1)
        place = ("", job.position, job.attempt, job.lost_attempts)
        return Transition(job.id, job.claim, State.COMPLETE, *place, outcome.kind)
    match outcome:
        case WentTo(task):
            index = locate(plan, job.position + 1, task)
            if index is None:
                fault = f"GoTo({task!r}): this job's tasks are {', '.join(plan)}"
                return _stay(job, outcome, State.FAILED, error=fault)
            return _begin(job, outcome, plan, index)
        case Snoozed(delay_seconds):
            # It ran to its end, so whatever its workers died of is over.
            transition = _again(job, outcome, State.READY, delay_seconds=delay_seconds)
            transition.attempt, transition.lost_attempts = transition.attempt - job.lost_attempts, 0
            return transition
        case Failed(error, may_retry, wanted):
            delay = retry.delay(job.attempt - job.lost_attempts, chance)
            if delay is None or not may_retry:
                return _stay(job, outcome, State.FAILED, error=error)
            return _stay(
                *(job, outcome, State.READY),
                error=error,
                delay_seconds=delay if wanted is None else wanted,
                priority=_stepped(job.priority, retry.priority_step),
            )
        case Lost(error):
            return _stay(job, outcome, State.FAILED, error=error)
        case Parked(error, delay_seconds):
            return _again(job, outcome, State(job.prior_state), error=error, delay_seconds=delay_seconds)
        case GivenBack():
            return _again(job, outcome, State(job.prior_state))
        case CutOff(error):
            # Something may end this task's transaction each time: a limit of the server's or of a pooler's.
            transition = _stay(job, outcome, State.READY, error=error)
            transition.lost_attempts += 1
            return transition


def _begin(job: JobView, outcome: Outcome, plan: Sequence[str], index: int) -> Transition:
    """Return the step to the first attempt of another task."""
    return Transition(job.id, job.claim, State.READY, plan[index], index, 0, 0, outcome.kind)


def _stay(job: JobView, outcome: Outcome, state: State, **others: Any) -> Transition:
    """Return the step to a state at the present task, whose attempt counts."""
    place = (job.next_task, job.position, job.attempt, job.lost_attempts)
    return Transition(job.id, job.claim, state, *place, outcome.kind, **others)


def _again(job: JobView, outcome: Outcome, state: State, **others: Any) -> Transition:
    """Return the step to a state at the present task, as if this attempt had not been."""
    transition = _stay(job, outcome, state, **others)
    transition.attempt -= 1
    return transition


def _stepped(priority: int, step: int) -> int | None:
    """Return the priority after a failure, within what the column holds; None where it stays."""
    return max(-SMALLINT_MAX - 1, min(SMALLINT_MAX, priority + step)) if step else None
