"""The store as a small model: rows in a dictionary, time as a number of seconds, the rules from the engine.

It says what every verb of a store must do, in as few words as that takes. `replay`
in replay.py holds the stores to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from django_dbq.engine.lifecycle import (
    DUE_STATES,
    FINISHED_STATES,
    HELD_STATES,
    GivenBack,
    State,
    Transition,
    decide,
)
from django_dbq.engine.retry import RetryPolicy

LOST_ATTEMPTS_MAX = 3


@dataclass(slots=True)
class Row:
    """A job. Times are seconds; `prior_state` is set in what a claim hands out."""

    id: Any
    name: str
    plan: tuple[str, ...]
    created: float
    queue_name: str = "default"
    priority: int = 0
    run_after: float | None = None
    staged: bool = True
    state: str = State.NEW
    next_task: str = ""
    position: int = 0
    attempt: int = 0
    lost_attempts: int = 0
    claim: int = 0
    claimed_by: str | None = None
    lease_until: float | None = None
    cancel_requested: bool = False
    started: float | None = None
    finished: float | None = None
    workspace: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    error: str | None = None
    prior_state: str = ""

    @property
    def due(self) -> float:
        return self.created if self.run_after is None else self.run_after

    @property
    def spent(self) -> bool:
        return self.lost_attempts >= LOST_ATTEMPTS_MAX

    def let_go(self, state: str, now: float) -> None:
        """Be nobody's, in `state`."""
        self.state, self.claimed_by, self.lease_until = state, None, None
        self.finished = now if state in FINISHED_STATES else None


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the history."""

    task: str
    position: int
    attempt: int
    worker: str
    outcome: str
    error: str | None = None
    changes: Any = None


class ModelStore:
    """The verbs of `django_dbq.store.Store`. Each takes `now`; what it hands out are copies."""

    def __init__(self) -> None:
        self.rows: dict[Any, Row] = {}
        self.runs: dict[tuple[Any, int], RunRow] = {}

    def create(self, row: Row) -> None:
        self.rows[row.id] = replace(row, next_task=row.plan[0])

    def claim(
        self, queue_names: Any, *, worker: str, limit: int, lease_seconds: float, now: float
    ) -> list[Row]:
        due = [
            row
            for row in self.rows.values()
            if row.state in DUE_STATES
            and row.staged
            and row.queue_name in queue_names
            and (row.run_after is None or row.run_after <= now)
        ]
        due.sort(key=lambda row: (-row.priority, row.due, row.id))
        taken = []
        for row in due[:limit]:
            prior_state, row.state = row.state, State.PROCESSING
            row.claim += 1
            row.attempt += 1
            row.claimed_by, row.lease_until = worker, now + lease_seconds
            row.started = now if row.started is None else row.started
            taken.append(replace(row, prior_state=prior_state))
        return taken

    def record(self, transitions: Any, *, worker: str, lease_seconds: float, now: float) -> dict[Any, str]:
        states = {}
        for one in transitions:
            row = self._held(one.job_id, one.claim, worker)
            if row is None:
                continue
            row.next_task, row.position = one.next_task, one.position
            row.attempt, row.lost_attempts = one.attempt, one.lost_attempts
            row.workspace = row.workspace if one.workspace is None else json.loads(one.workspace)
            row.result = row.result if one.result is None else json.loads(one.result)
            row.error = None if one.state is State.COMPLETE else one.error or row.error
            row.run_after = row.run_after if one.delay_seconds is None else now + one.delay_seconds
            row.staged = not one.delay_seconds
            cancelled = row.cancel_requested and not one.finished
            row.cancel_requested = False
            if one.hold and not cancelled:
                row.claim += 1
                row.state, row.lease_until = one.state, now + lease_seconds
            else:
                row.let_go(State.CANCELLED if cancelled else one.state, now)
            if (run := one.run) is not None:
                assert (one.job_id, one.claim) not in self.runs, "an attempt is recorded twice"
                changes = None if run.changes is None else json.loads(run.changes)
                self.runs[one.job_id, one.claim] = RunRow(
                    run.task, run.position, run.attempt, worker, run.outcome, run.error, changes
                )
            states[row.id] = str(row.state)
        return states

    def recorded(self, transitions: Any, *, worker: str) -> dict[Any, str]:
        found = {}
        for one in transitions:
            run = self.runs.get((one.job_id, one.claim))
            if run is not None and run.worker == worker and run.outcome != "lost":
                found[one.job_id] = str(self.rows[one.job_id].state)
        return found

    def release(self, jobs: Any, *, worker: str, now: float) -> dict[Any, str]:
        given_back = [given_back_of(job) for job in jobs]
        return self.record(given_back, worker=worker, lease_seconds=0, now=now)

    def save_progress(self, job: Row, *, workspace: str, result: str | None, worker: str) -> bool:
        row = self._held(job.id, job.claim, worker)
        if row is not None:
            row.workspace = json.loads(workspace)
            row.result = row.result if result is None else json.loads(result)
        return row is not None

    def extend(
        self, jobs: Any, *, worker: str, lease_seconds: float, stopping: bool, now: float
    ) -> dict[Any, bool]:
        held = {}
        for job in jobs:
            row = self._held(job.id, job.claim, worker)
            if row is not None:
                row.lease_until = now + lease_seconds
                row.state = State.STOPPING if stopping else row.state
                held[row.id] = row.cancel_requested
        return held

    def cancel(self, job_ids: Any, *, now: float) -> dict[Any, str]:
        states = {}
        for pk in job_ids:
            row = self.rows.get(pk)
            if row is None or row.state in FINISHED_STATES:
                continue
            if row.state in HELD_STATES:
                row.cancel_requested = True
            else:
                row.let_go(State.CANCELLED, now)
            states[pk] = str(row.state)
        return states

    def retry(self, job_ids: Any, *, from_start: bool) -> set[Any]:
        retried = set()
        for pk in job_ids:
            row = self.rows.get(pk)
            if row is None or row.state not in FINISHED_STATES:
                continue
            if from_start or not row.next_task:
                row.next_task, row.position = row.plan[0], 0
            row.attempt = row.lost_attempts = 0
            row.run_after, row.staged, row.finished = None, True, None
            row.state = State.READY
            retried.add(pk)
        return retried

    def stage(self, *, now: float) -> int:
        due = [row for row in self.rows.values() if not row.staged and row.due <= now]
        for row in due:
            row.staged = True
        return len(due)

    def rescue(
        self, *, worker: str, lease_seconds: float, lost_attempts_max: int, now: float
    ) -> tuple[list[Row], list[Row]]:
        ready: list[Row] = []
        spent = []
        for row in self.rows.values():
            if row.lease_until is None or not row.lease_until < now:
                continue
            row.error = f"WorkerLost: the lease of {row.claimed_by} ran out"
            assert (row.id, row.claim) not in self.runs, "a recorded attempt is lost"
            self.runs[row.id, row.claim] = RunRow(
                row.next_task, row.position, row.attempt, str(row.claimed_by), "lost", row.error
            )
            row.lost_attempts += 1
            if row.cancel_requested:
                row.let_go(State.CANCELLED, now)
                row.cancel_requested = False
            elif row.lost_attempts < lost_attempts_max:
                row.let_go(State.READY, now)
            else:
                row.claim += 1
                row.state, row.claimed_by = State.PROCESSING, worker
                row.lease_until = now + lease_seconds
                spent.append(replace(row, prior_state=State.READY))
                continue
            ready.append(row)
        return ready, spent

    def expire(self, workers: Any) -> int:
        held = [row for row in self.rows.values() if row.claimed_by in workers]
        for row in held:
            row.lease_until = float("-inf")
        return len(held)

    def prune(self, before: float) -> int:
        old = [pk for pk, row in self.rows.items() if row.state in FINISHED_STATES and row.created <= before]
        for pk in old:
            del self.rows[pk]
        self.runs = {key: run for key, run in self.runs.items() if key[0] not in old}
        return len(old)

    def _held(self, job_id: Any, claim: int, worker: str) -> Row | None:
        row = self.rows.get(job_id)
        return row if row and (row.claim, row.claimed_by) == (claim, worker) else None


def given_back_of(job: Row) -> Transition:
    return decide(job, GivenBack(), (), RetryPolicy(), 0.0)
