"""Every number, read only and computed once; health() and the commands format it.

The number of statements does not depend on the number of jobs, and each of them reads a
bounded part of the tables on PostgreSQL.
"""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models, router
from django.db.models.functions import Coalesce

from django_dbq import conf
from django_dbq.engine.lifecycle import DUE_STATES, HELD_STATES, UNFINISHED_STATES, State
from django_dbq.models import Job, TaskRun, WorkerProcess
from django_dbq.redaction import redact_text
from django_dbq.store import get_store

RUNS_MAX = 1_000  # The newest of the history: what durations are taken from.
RUNNING_MAX = 1_000
WORKERS_MAX = 1_000
LATER_MAX = 10_000  # Of the jobs that wait for their time, the soonest: more are not counted.
FAILURES_SHOWN = 10
FAILED_SECONDS = 24 * 3600
GONE = "gone"  # The state of a worker that was killed, or hangs.


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


# What `manage.py monitor` shows.


@dataclass(frozen=True, slots=True)
class Task:
    """A task that a worker runs, or is about to."""

    job: str
    name: str
    task: str
    queue: str
    seconds: float  # Since the claim, or the record of the job's last task.


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process, by its last report. Times are seconds."""

    name: str
    host: str
    pid: int
    state: str  # "idle", "busy", "stopping", or "gone": not seen for a lease.
    queues: tuple[str, ...]
    threads: int
    uptime: float
    seen_age: float  # Since the report.
    tasks_done: int
    tasks_failed: int
    rss_bytes: int | None
    tasks: tuple[Task, ...]  # First what runs longest.

    @property
    def reported_at(self) -> float:
        """How long it had run when it reported, in seconds."""
        return self.uptime - self.seen_age

    def tasks_per_second(self, earlier: Worker | None = None) -> float | None:
        """Return how many tasks ended a second between `earlier`, another reading, and this one.

        Without one: since the worker began. None where no time lies between them.
        """
        ended, at = (0, 0.0) if earlier is None else (earlier.tasks_ended, earlier.reported_at)
        seconds = self.reported_at - at
        return (self.tasks_ended - ended) / seconds if seconds > 0 else None

    @property
    def tasks_ended(self) -> int:
        """Tasks done and failed."""
        return self.tasks_done + self.tasks_failed


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that a worker serves, that has jobs, or that is paused. Times are seconds."""

    name: str
    paused: bool
    workers: int  # That serve it and were seen within a lease.
    depth: int  # Jobs that wait and are due.
    oldest_due_age: float | None
    in_progress: int
    failed: int  # Within the last day.
    later: int = 0  # That wait for a time, as retries do; of all queues the soonest LATER_MAX count.


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that is FAILED."""

    job: str
    name: str
    task: str
    queue: str
    age: float  # Seconds since it ended.
    error: str  # One line.


@dataclass(frozen=True, slots=True)
class Overview:
    """What `overview` found."""

    now: datetime.datetime
    workers: tuple[Worker, ...]  # First those that live, by host; then the gone, the last seen first.
    queues: tuple[Queue, ...]
    failures: tuple[Failure, ...]  # The newest first.


def overview(using: str | None = None) -> Overview:
    """Return how workers and queues do, and the newest failures, in nine statements.

    They read what is due, what runs and what failed within a day, however many jobs have finished.
    """
    using = using or router.db_for_write(Job)
    store = get_store(using)
    now = store.clock()
    jobs = Job.objects.using(using).order_by()
    due = jobs.filter(models.Q(run_after__isnull=True) | models.Q(run_after__lte=now), state__in=DUE_STATES)
    since = models.Min(Coalesce("run_after", "created"))
    # Staged, as claims ask for it: the index passes over a million jobs that wait for their time.
    by_queue = due.filter(staged=True).values_list("queue_name").annotate(models.Count("pk"), since=since)
    waiting = {name: (depth, oldest) for name, depth, oldest in by_queue}
    ahead = jobs.filter(staged=False, state__in=DUE_STATES).order_by("run_after")
    later = Counter(ahead.values_list("queue_name", flat=True)[:LATER_MAX])
    held = jobs.filter(lease_until__isnull=False, state__in=HELD_STATES)
    in_progress = _by_queue(held)
    day = now - datetime.timedelta(seconds=FAILED_SECONDS)
    failed_jobs = jobs.filter(state=State.FAILED, finished__isnull=False)
    failed = _by_queue(failed_jobs.filter(finished__gte=day))
    workers = _worker_rows(using, now, held)
    paused = store.paused()
    serving = Counter(name for worker in workers if worker.state != GONE for name in set(worker.queues))
    queues = []
    for name in sorted({*waiting, *later, *in_progress, *failed, *paused, *serving}):
        depth, oldest = waiting.get(name, (0, None))
        queues.append(
            Queue(
                name,
                name in paused,
                serving[name],
                depth,
                None if oldest is None else _seconds(oldest, now),
                in_progress.get(name, 0),
                failed.get(name, 0),
                later[name],
            )
        )
    columns = ("pk", "name", "next_task", "queue_name", "finished", "error")
    newest = failed_jobs.order_by("-finished").values_list(*columns)[:FAILURES_SHOWN]
    failures = [
        Failure(str(pk), name, task, queue, _seconds(finished, now), _first_line(error))
        for pk, name, task, queue, finished, error in newest
    ]
    return Overview(now, workers, tuple(queues), tuple(failures))


def _by_queue(jobs: models.QuerySet[Job]) -> dict[str, int]:
    return dict(jobs.values_list("queue_name").annotate(models.Count("pk")))


def _worker_rows(using: str, now: datetime.datetime, held: models.QuerySet[Job]) -> tuple[Worker, ...]:
    tasks: dict[str | None, list[Task]] = defaultdict(list)
    stopping = set()
    columns = ("claimed_by", "state", "pk", "name", "next_task", "queue_name", "modified")
    for worker, state, pk, name, task, queue, modified in held.order_by("modified").values_list(*columns)[
        :RUNNING_MAX
    ]:
        tasks[worker].append(Task(str(pk), name, task, queue, _seconds(modified, now)))
        if state == State.STOPPING:
            stopping.add(worker)
    lease = conf.options().LEASE_SECONDS
    alive = now - datetime.timedelta(seconds=lease)
    # Those that live first: after a night of falling workers there may be thousands of rows.
    gone = models.Case(models.When(seen__lt=alive, then="seen")).desc(nulls_first=True)
    found = []
    for row in WorkerProcess.objects.using(using).order_by(gone, "host", "started", "name")[:WORKERS_MAX]:
        # It may have claimed more than it has threads: the oldest of them run.
        mine = tuple(tasks[row.name][: row.threads])
        state = "busy" if mine else "idle"
        if _seconds(row.seen, now) > lease:
            state = GONE
        elif row.name in stopping:
            state = "stopping"
        found.append(
            Worker(
                name=row.name,
                host=row.host,
                pid=row.pid,
                state=state,
                queues=tuple(row.queue_names),
                threads=row.threads,
                uptime=_seconds(row.started, now),
                seen_age=_seconds(row.seen, now),
                tasks_done=row.tasks_done,
                tasks_failed=row.tasks_failed,
                rss_bytes=row.rss_bytes,
                tasks=mine,
            )
        )
    return tuple(found)


def _first_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return redact_text(lines[0]) if lines else ""
