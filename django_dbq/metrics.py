"""Every number, read only and computed once; health() and the commands format it.

The number of statements does not depend on the number of jobs, and each of them reads a
bounded part of the tables on PostgreSQL.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models, router

from django_dbq import conf
from django_dbq.engine.lifecycle import FINISHED_STATES, HELD_STATES, State
from django_dbq.models import Job, TaskRun, WorkerProcess
from django_dbq.store import get_store

RUNS_MAX = 1_000  # The newest of the history: what durations are taken from.
RUNNING_MAX = 1_000

UNFINISHED_STATES = tuple(state for state in State if state not in FINISHED_STATES)


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has finished."""

    id: Any
    name: str
    finished: datetime.datetime


@dataclass(frozen=True, slots=True)
class Running:
    """A job that a worker holds."""

    task: str
    later_tasks: tuple[str, ...]
    seconds: float  # Since the claim, or the record of its last task.


@dataclass(frozen=True, slots=True)
class Durations:
    """How long attempts and jobs take, by the newest of the history. None where that is empty."""

    by_task: Mapping[str, float]  # Seconds of an attempt, on average.
    of_a_run: float | None  # The same over all tasks.
    of_a_job: float | None  # All attempts at a job together, on average.

    def of_tasks(self, tasks: Iterable[str]) -> float:
        """Return the seconds of one attempt at each of these; a task that never ran counts as any."""
        return sum(self.by_task.get(task, self.of_a_run or 0.0) for task in tasks)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `measure` found. Times are seconds."""

    by_state: Mapping[str, Mapping[str, int]]  # The number of jobs, by name. Every state is there.
    estimated: tuple[str, ...]  # Those whose numbers are estimates.
    failing: int  # Jobs whose last attempt failed.
    oldest: Mapping[State, Ended | None]  # The first to end that is still kept.
    newest: Mapping[State, Ended | None]
    oldest_due_age: float | None  # How long the job that waits longest has been due.
    running: tuple[Running, ...]
    durations: Durations
    workers: int  # Processes seen within a lease.
    threads: int  # Of these, together: how many tasks run at once.

    def number(self, *states: str) -> int:
        """Return the number of jobs in these states."""
        return sum(sum(self.by_state[state].values()) for state in states)

    def names(self, *states: str) -> dict[str, int]:
        """Return the number of jobs in these states, by name."""
        found: dict[str, int] = defaultdict(int)
        for state in states:
            for name, number in self.by_state[state].items():
                found[name] += number
        return dict(sorted(found.items()))

    def rough_seconds(self) -> float | None:
        """Return when the queue will be empty: unfinished jobs x average seconds of a job / threads.

        Nothing tells it without a history. Without a worker it is as if there were one thread.
        """
        remaining = self.number(*UNFINISHED_STATES)
        if not remaining or self.durations.of_a_job is None:
            return None if remaining else 0.0
        return remaining * self.durations.of_a_job / max(1, self.threads)

    def precise_seconds(self) -> float | None:
        """Return the same by name: of waiting jobs one attempt at each task, of running ones the rest.

        A waiting job counts with all tasks of its present workflow, even when it waits half way.
        """
        durations = self.durations
        if durations.of_a_run is None or durations.of_a_job is None:
            return None if self.number(*UNFINISHED_STATES) else 0.0
        workflows = conf.workflows()
        unread = max(0, self.number(*HELD_STATES) - len(self.running))
        seconds = sum(self._left()) + unread * durations.of_a_job
        for name, number in self.names(State.NEW, State.READY, State.WAITING).items():
            tasks = workflows[name].plan if name in workflows else (name,)
            seconds += number * durations.of_tasks(tasks)
        return seconds / max(1, self.threads)

    def current_seconds(self) -> float | None:
        """Return when the last of the running jobs will be done."""
        if self.running and self.durations.of_a_run is None:
            return None
        return max(self._left(), default=0.0)

    def _left(self) -> list[float]:
        """Return the seconds that each running job has left; one that takes longer than usual has none."""
        return [
            max(0.0, self.durations.of_tasks([job.task]) - job.seconds)
            + self.durations.of_tasks(job.later_tasks)
            for job in self.running
        ]


def measure(using: str | None = None) -> Metrics:
    """Read the numbers of a database (the router's choice)."""
    using = using or router.db_for_read(Job)
    store = get_store(using)
    now = store.clock()
    counts = store.count()
    by_state: dict[str, dict[str, int]] = {state: {} for state in State}
    for (state, name), number in counts.numbers.items():
        by_state.setdefault(state, {})[name] = number  # A project may have written states of its own.
    since = store.oldest_due()
    workers, threads = _workers(using, now)
    return Metrics(
        by_state=by_state,
        estimated=tuple(state for state in by_state if state in counts.estimated),
        failing=counts.failing,
        oldest={state: _ended(using, state, "finished") for state in (State.COMPLETE, State.CANCELLED)},
        newest={state: _ended(using, state, "-finished") for state in (State.COMPLETE, State.CANCELLED)},
        oldest_due_age=None if since is None else _seconds(since, now),
        running=_running(using, now),
        durations=_durations(using),
        workers=workers,
        threads=threads,
    )


def _seconds(begun: datetime.datetime, ended: datetime.datetime) -> float:
    return max(0.0, (ended - begun).total_seconds())


def _ended(using: str, state: State, order: str) -> Ended | None:
    jobs = Job.objects.using(using).filter(state=state, finished__isnull=False).order_by(order)
    row = jobs.values_list("pk", "name", "finished").first()
    return None if row is None else Ended(*row)


def _workers(using: str, now: datetime.datetime) -> tuple[int, int]:
    """Return how many worker processes live, and how many threads they have."""
    alive = now - datetime.timedelta(seconds=conf.options().LEASE_SECONDS)
    found = WorkerProcess.objects.using(using).filter(seen__gte=alive)
    numbers = found.aggregate(workers=models.Count("pk"), threads=models.Sum("threads"))
    return numbers["workers"], numbers["threads"] or 0


def _running(using: str, now: datetime.datetime) -> tuple[Running, ...]:
    held = Job.objects.using(using).filter(lease_until__isnull=False, state__in=HELD_STATES)
    rows = held.order_by("lease_until").values_list("next_task", "plan", "position", "modified")
    return tuple(
        Running(task, tuple((plan or ())[position + 1 :]), _seconds(modified, now))
        for task, plan, position, modified in rows[:RUNNING_MAX]
    )


def _durations(using: str) -> Durations:
    newest = TaskRun.objects.using(using).order_by("-pk")[:RUNS_MAX]
    seconds: dict[str, list[float]] = defaultdict(list)
    jobs = set()
    for job, task, started, finished in newest.values_list("job_id", "task", "started", "finished"):
        seconds[task].append(_seconds(started, finished))
        jobs.add(job)
    if not jobs:
        return Durations({}, None, None)
    total = sum(map(sum, seconds.values()))
    return Durations(
        by_task={task: sum(taken) / len(taken) for task, taken in seconds.items()},
        of_a_run=total / sum(map(len, seconds.values())),
        of_a_job=total / len(jobs),
    )
