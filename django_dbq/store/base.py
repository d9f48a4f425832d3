"""The interface of a store. One instance serves one database; it keeps no state of a job."""

from __future__ import annotations

import datetime
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, OperationalError, connections, models, transaction
from django.db.models.functions import Coalesce, Now, RowNumber

from django_dbq.engine.lifecycle import (
    FINISHED_STATES,
    HELD_STATES,
    UNBEGUN_STATES,
    GivenBack,
    State,
    Transition,
    decide,
)
from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.workflow import Workflow
from django_dbq.models import Group, Job, PausedQueue, Schedule, ScheduleRun, TaskRun, WorkerProcess
from django_dbq.models.group import UNENDED_STATES, UNTOUCHED_STATES

STAGE_BATCH = 1_000
RESCUE_BATCH = 100
PRUNE_BATCH = 1_000
TRIM_BATCH = 5_000
PRUNE_GROUPS = 10  # At a time: of more, PostgreSQL might look for the jobs by reading the whole table.
WAKE_BATCH = 1_000
FIRE_BATCH = 20  # Schedules; each of them up to CATCH_UP_MAX slots.
SCHEDULE_FAILURES_MAX = 5  # In a row, to fire; then the schedule is disabled.
SCHEDULE_PAUSE_SECONDS = 60  # After the first of them; after the second twice as long.
GONE = "disabled: no entry of JOBS declares it any more"
FORGET_SECONDS = 24 * 3600
AWAITED_SECONDS = 10.0  # For so long a worker remembers that somebody waits for a job's end.

# What prune removes; STOPPING only where no lease is held: those are the original's.
PRUNED_STATES = (*FINISHED_STATES, State.STOPPING)


@dataclass(slots=True)
class Counts:
    """How many jobs there are, by state and name; of some states perhaps an estimate."""

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    failing: int = 0  # Those whose last attempt failed: all FAILED ones, others with an error.
    estimated: set[str] = field(default_factory=set)

    def add(self, state: str, name: str, number: int, with_error: int) -> None:
        """Count in `number` jobs, of which so many have an error."""
        self.numbers[state, name] = self.numbers.get((state, name), 0) + number
        self.failing += number if state == State.FAILED else with_error


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune has deleted."""

    jobs: Counter[str]  # By state.
    groups: int


@dataclass(slots=True)
class Fired:
    """What a look at the schedules has done."""

    jobs: int = 0  # How many were created.
    more: bool = False  # Whether it is worth looking again at once.
    failed: list[Schedule] = field(default_factory=list)  # With the error; perhaps disabled now.


@dataclass(frozen=True, slots=True)
class News:
    """What there may be for upkeep to do, and which queues are paused."""

    paused: frozenset[str]
    schedules_due: bool = True
    unstaged: bool = True
    waiting: bool = True
    expired: bool = True


def urgency(job: Job) -> tuple[int, datetime.datetime, int]:
    """Return what jobs of a claim are ordered by: priority high to low, due time, id."""
    return -job.priority, job.run_after or job.created, job.id.int  # Two UUIDs are compared in Python.


class Store(ABC):
    """Every statement of the engine, for one database.

    Time is the database's clock; `now` replaces it where a caller passes one (tests
    under freezegun). What carries a claim is guarded by it: a row whose claim has
    moved on is left alone and is missing from the answer.
    """

    def __init__(self, using: str) -> None:
        self.using = using

    def prepare_connection(self, lease_seconds: float) -> None:
        """Settle how this thread will connect, before it does: a dead network must show within a lease."""

    def prepare_session(self, lease_seconds: float) -> None:
        """Set up the present connection for the engine's own statements."""

    def announce(self, queue_names: Collection[str]) -> None:
        """Wake the workers of these queues once the present transaction commits."""

    @abstractmethod
    def enqueue_many(self, alike: Job, workspaces: Sequence[str]) -> list[uuid.UUID]:
        """Insert a job like this one for each workspace, which is JSON text; return their ids, in order."""

    @abstractmethod
    def claim(
        self,
        queue_names: Sequence[str],
        *,
        worker: str,
        limit: int,
        lease_seconds: float,
        now: datetime.datetime | None = None,
    ) -> list[Job]:
        """Take up to `limit` due jobs for `worker`, in claim order, and count an attempt of each."""

    @abstractmethod
    def claim_by_id(
        self, job_ids: Collection[Any], *, worker: str, lease_seconds: float, only_due: bool = False
    ) -> list[Job]:
        """Take these jobs for `worker` where they wait, due or not; count an attempt of each."""

    @abstractmethod
    def record(
        self,
        transitions: Sequence[Transition],
        *,
        worker: str,
        lease_seconds: float,
        now: datetime.datetime | None = None,
    ) -> dict[Any, str]:
        """Write transitions and their history in one statement; return the states of those still held.

        A transition with `hold` keeps the job for `worker` under the next claim number,
        with its next attempt counted. A job that could go on, but that somebody asked to
        cancel, becomes CANCELLED instead: only the answer tells.
        """

    @abstractmethod
    def save_progress(self, job: Job, *, workspace: str, result: str | None, worker: str) -> bool:
        """Write the workspace and result of a running job; tell whether it was still held."""

    @abstractmethod
    def extend(
        self, jobs: Collection[Job], *, worker: str, lease_seconds: float, stopping: bool = False
    ) -> dict[Any, bool]:
        """Renew the leases of held jobs; return, for those still held, whether a cancel was asked for.

        `stopping` shows them as STOPPING: their worker was asked to exit.
        """

    @abstractmethod
    def cancel(self, job_ids: Collection[Any]) -> dict[Any, str]:
        """Cancel jobs: waiting ones now, held ones at their next record. Return the states after it.

        Finished jobs are left alone and missing from the answer.
        """

    @abstractmethod
    def deschedule(self, identity: str) -> int:
        """Cancel the calls with this identity that have not begun; return how many."""

    @abstractmethod
    def retry(self, job_ids: Collection[Any], *, from_start: bool = False, stuck: bool = False) -> int:
        """Make finished jobs READY again at the task they ended at, or their first; return how many.

        The final job of a group is WAITING, unless the others have ended. Attempts count
        anew, the workspace stays. `stuck` also takes jobs that a worker of
        the original package has left PROCESSING or STOPPING.
        """

    @abstractmethod
    def stage(self, *, now: datetime.datetime | None = None) -> int:
        """Make waiting jobs whose time has come visible to claims; return how many."""

    @abstractmethod
    def rescue(
        self,
        *,
        worker: str,
        lease_seconds: float,
        lost_attempts_max: int,
        now: datetime.datetime | None = None,
    ) -> tuple[int, list[Job]]:
        """Take back jobs whose lease ran out.

        Return how many are READY again (or CANCELLED, where that was asked for), and those
        that were lost too often: these are now held by `worker`, which has to fail them.
        """

    @abstractmethod
    def _prune_batch(
        self,
        before: datetime.datetime,
        *,
        since: datetime.datetime | None,
        states: Collection[str],
        limit: int,
    ) -> list[tuple[str, datetime.datetime]]:
        """Delete up to `limit` jobs in these states created from `since` to `before`, with their history.

        Those of a group are left. Return the state of each and when it was created.
        """

    def prune(
        self,
        before: datetime.datetime,
        *,
        states: Collection[str] = PRUNED_STATES,
        limit: int | None = None,
    ) -> Pruned:
        """Delete jobs in these states created before `before`, a batch of `limit` at a time.

        A group goes as a whole: its jobs stay while any of them is not finished, or is
        younger. Nobody waits for the locks of one batch longer than that batch takes.
        """
        limit = limit or PRUNE_BATCH
        gone: Counter[str] = Counter()
        since = None
        while batch := self._prune_batch(before, since=since, states=states, limit=limit):
            gone.update(state for state, _ in batch)
            since = max(created for _, created in batch)
        return self._prune_groups(before, "created", states, limit, gone)

    def prune_ended(self, before: datetime.datetime) -> Pruned:
        """As `prune`, by when jobs ended."""
        gone: Counter[str] = Counter()
        for state in FINISHED_STATES:  # One at a time: so the index has them in order.
            ended = self._finished().filter(state=state, finished__lte=before, group__isnull=True)
            since = None
            while True:
                rest = ended if since is None else ended.filter(finished__gte=since)
                batch = list(rest.order_by("finished").values_list("pk", "finished")[:PRUNE_BATCH])
                deleted = self._delete_finished([pk for pk, _ in batch])
                gone += deleted
                if len(batch) < PRUNE_BATCH or not deleted:
                    break
                since = batch[-1][1]
        return self._prune_groups(before, "finished", FINISHED_STATES, PRUNE_BATCH, gone)

    def _prune_groups(
        self, before: datetime.datetime, column: str, states: Collection[str], limit: int, gone: Counter[str]
    ) -> Pruned:
        """Delete the jobs of groups that are over, then the groups that have none left."""
        old = Group.objects.using(self.using).filter(created__lte=before).order_by("pk")
        last, groups = 0, 0
        while ids := list(old.filter(pk__gt=last).values_list("pk", flat=True)[:PRUNE_GROUPS]):
            last = ids[-1]
            unfinished = self._of_groups(ids).filter(state__in=(*UNBEGUN_STATES, *HELD_STATES))
            kept = set(unfinished.order_by().values_list("group", flat=True).distinct())
            young = self._of_groups(set(ids) - kept).filter(**{f"{column}__gt": before})
            kept |= set(young.order_by().values_list("group", flat=True).distinct())
            over = set(ids) - kept
            jobs = self._of_groups(over).filter(state__in=states).order_by()
            while deleted := self._delete_finished(list(jobs.values_list("pk", flat=True)[:limit])):
                gone += deleted
            groups += self._delete_empty(over)
        return Pruned(gone, groups)

    def discard(self, job_ids: Collection[Any]) -> int:
        """Delete jobs that nobody wants to keep, where they have ended; return how many."""
        return self._delete_finished(job_ids).total()

    def trim(self, kept: int) -> int:
        """Delete successes beyond the newest `kept` of each label, or name, a bounded batch; return how many.

        Those of a group stay: it goes as a whole.
        """
        return self._trim(self._successes(), kept, Coalesce("label", "name"))

    def trim_queues(self, queue_names: Collection[str], kept: int, per: str | None) -> int:
        """As `trim`, in these queues: beyond the newest `kept` of each value of the column `per`.

        None: of all together. A job without a title has it to itself.
        """
        successes = self._successes().filter(queue_name__in=queue_names)
        if per is not None:
            named = successes.filter(title__isnull=False) if per == "title" else successes
            return self._trim(named, kept, models.F(per))
        beyond = successes.order_by("-finished", "-id").values_list("pk", flat=True)
        return self._delete_finished(list(beyond[kept : kept + TRIM_BATCH])).total()

    def _successes(self) -> models.QuerySet[Job]:
        complete = Job.objects.using(self.using).filter(state=State.COMPLETE, finished__isnull=False)
        return complete.filter(group__isnull=True)  # type: ignore[no-any-return]

    def _trim(self, successes: models.QuerySet[Job], kept: int, per: Any) -> int:
        newest_first = [models.F("finished").desc(), models.F("id").desc()]
        place = models.Window(RowNumber(), partition_by=[per], order_by=newest_first)
        beyond = successes.annotate(place=place).filter(place__gt=kept).order_by()
        return self._delete_finished(list(beyond.values_list("pk", flat=True)[:TRIM_BATCH])).total()

    def forget_label(self, label: str, *, delete: bool) -> int:
        """Take a label off the jobs that have it and have ended, or delete these; return how many."""
        jobs = self._finished().filter(label=label)
        if delete:
            return self._delete_finished(list(jobs.values_list("pk", flat=True))).total()
        return int(jobs.update(label=None, modified=self.clock()))

    def _delete_finished(self, job_ids: Collection[Any]) -> Counter[str]:
        """Delete those of these jobs that are finished and that nobody holds locked; count them by state."""
        if not job_ids:
            return Counter()
        skip = connections[self.using].features.has_select_for_update_skip_locked
        with self.write():
            # A group before the job that ends it, as in `lock_jobs`.
            ends = Group.objects.using(self.using).filter(final__in=job_ids).order_by("pk")
            finals = dict(ends.values_list("pk", "final"))
            rows = ends.filter(pk__in=finals).select_for_update(skip_locked=skip)
            locked = set(rows.values_list("pk", flat=True)) if finals else set()
            busy = {final for group, final in finals.items() if group not in locked}
            jobs = self._finished().filter(pk__in=set(job_ids) - busy).select_for_update(skip_locked=skip)
            states = dict(jobs.values_list("pk", "state"))
            self._delete(list(states))
        return Counter(states.values())

    def _delete(self, job_ids: Collection[Any]) -> None:
        """Delete these jobs, which are locked, with their history."""
        TaskRun.objects.using(self.using).filter(job_id__in=job_ids)._raw_delete(self.using)
        ScheduleRun.objects.using(self.using).filter(job_id__in=job_ids)._raw_delete(self.using)
        Group.objects.using(self.using).filter(final__in=job_ids).update(final=None)
        Job.objects.using(self.using).filter(pk__in=job_ids)._raw_delete(self.using)

    def _delete_empty(self, group_ids: Collection[int]) -> int:
        """Delete those of these groups that have no jobs; return how many."""
        if not group_ids:
            return 0
        skip = connections[self.using].features.has_select_for_update_skip_locked
        with self.write():
            # Locked before their jobs are looked at, as in `wake`.
            groups = Group.objects.using(self.using).filter(pk__in=group_ids)
            locked = set(groups.select_for_update(skip_locked=skip).values_list("pk", flat=True))
            locked -= set(self._of_groups(locked).order_by().values_list("group", flat=True).distinct())
            return int(groups.filter(pk__in=locked)._raw_delete(self.using)) if locked else 0

    def _finished(self) -> models.QuerySet[Job]:
        return Job.objects.using(self.using).filter(state__in=FINISHED_STATES)  # type: ignore[no-any-return]

    def _of_groups(self, group_ids: Collection[int]) -> models.QuerySet[Job]:
        return Job.objects.using(self.using).filter(group__in=group_ids)  # type: ignore[no-any-return]

    @abstractmethod
    def expire(self, workers: Collection[str]) -> int:
        """End the leases of workers known to be dead, for the next rescue to find; return how many."""

    @abstractmethod
    def clock(self) -> datetime.datetime:
        """Return the time by the database's clock."""

    @abstractmethod
    def count(self) -> Counts:
        """Count the jobs of each state and name: exactly, or quickly where a store cannot do both."""

    @abstractmethod
    def oldest_due(self) -> datetime.datetime | None:
        """Return since when the job has been due that has been due longest; None if none is due."""

    # Groups: rare, and the same for every database.

    def wait_for_group(self, job: Job, group: Group) -> bool:
        """Make a job WAITING, as the final one of a group; tell whether it had not begun.

        It is due once `wake` finds the group's other jobs complete or cancelled.
        """
        untouched = Job.objects.using(self.using).filter(pk=job.pk, state__in=UNTOUCHED_STATES)
        return bool(untouched.update(state=State.WAITING, group=group, modified=self.clock()))

    def wake(self, group_ids: Collection[Any] | None = None) -> int:
        """Make final jobs due whose group's other jobs are complete or cancelled; return how many.

        `group_ids` are the groups to look at; None: all.
        """
        jobs, groups = Job.objects.using(self.using), Group.objects.using(self.using)
        unended = jobs.filter(group=models.OuterRef("pk"), state__in=UNENDED_STATES)
        others = unended.exclude(pk=models.OuterRef("final"))
        done = groups.filter(~models.Exists(others), final__state=State.WAITING).order_by()
        looked_at = done if group_ids is None else done.filter(pk__in=group_ids)
        # Without a lock at first: nothing is locked that does not look done.
        found = list(looked_at.values_list("pk", flat=True)[:WAKE_BATCH])
        if not found:
            return 0
        skip = connections[self.using].features.has_select_for_update_skip_locked
        with self.write():
            # Locked, and looked at again: who adds a job to a group locks it too. Nothing here
            # waits for a lock, so whoever holds one and waits for another is safe from this.
            rows = groups.filter(pk__in=found).order_by("pk").select_for_update(skip_locked=skip)
            locked = list(rows.values_list("pk", flat=True))
            finals = list(done.filter(pk__in=locked).values_list("final", flat=True))
            waiting = jobs.filter(pk__in=finals, state=State.WAITING).order_by("pk")
            ready = dict(waiting.select_for_update(skip_locked=skip).values_list("pk", "queue_name"))
            jobs.filter(pk__in=ready).update(state=State.READY, modified=self.clock())
            if ready:
                self.announce(set(ready.values()))
            return len(ready)

    # Schedules: a few a second at most, and the same for every database.

    def fire(self, now: datetime.datetime | None = None, fired: Fired | None = None) -> Fired:
        """Create the jobs of schedules that are due, a bounded number, each in a transaction of its own.

        One that cannot be fired keeps no other from it: its error is noted, and it is tried again later.
        `fired` takes what has been done, and has it where an error of the database ends this early.
        """
        fired = Fired() if fired is None else fired
        clock: Any = now or (Now() if connections[self.using].vendor == "postgresql" else self.clock())
        not_later = models.Q(next_try__isnull=True) | models.Q(next_try__lte=clock)
        due = Schedule.objects.using(self.using).filter(not_later, enabled=True, next_run__lte=clock)
        found = list(due.order_by("next_run", "id").values_list("pk", flat=True)[:FIRE_BATCH])
        moment = (now or self.clock()) if found else None
        moved = 0
        for pk in found:
            assert moment is not None
            schedule, made = None, None
            try:
                with self.write():
                    # Looked at again under the lock: who had it before may have fired it.
                    schedule = self._locked_schedules(due.filter(pk=pk)).first()
                    if schedule is not None:
                        made = schedule.fire(moment)
            except (Exception, SystemExit) as error:  # A creation hook may even exit.
                # On SQLite a commit may find the database locked by somebody who reads.
                at_commit = made is not None and isinstance(error, OperationalError)
                if schedule is None or at_commit or not self._connected():
                    raise  # Not its fault.
                self._note_failure(pk, error, moment, fired)
            else:
                fired.jobs += made or 0
                moved += schedule is not None
                fired.more |= schedule is not None and schedule.is_due(moment)
        fired.more |= moved > 0 and len(found) == FIRE_BATCH
        return fired

    def _connected(self) -> bool:
        connection = connections[self.using]
        return connection.connection is not None and connection.is_usable()

    def _locked_schedules(self, schedules: models.QuerySet[Schedule]) -> models.QuerySet[Schedule]:
        skip = connections[self.using].features.has_select_for_update_skip_locked
        return schedules.select_for_update(skip_locked=skip)

    def _note_failure(self, pk: Any, error: BaseException, now: datetime.datetime, fired: Fired) -> None:
        with self.write():
            # If somebody has it locked, it is noted the next time.
            enabled = Schedule.objects.using(self.using).filter(pk=pk, enabled=True)
            schedule = self._locked_schedules(enabled).first()
            if schedule is not None:
                schedule.fail(error, now, pause_seconds=SCHEDULE_PAUSE_SECONDS, most=SCHEDULE_FAILURES_MAX)
                fired.failed.append(schedule)

    def declare(self, workflows: Iterable[Workflow], now: datetime.datetime | None = None) -> None:
        """Make the schedules that entries of JOBS declare, and change them as the entries have changed.

        Those whose entry has gone are disabled. Harmless when done twice, or by two at once.
        """
        declared = {entry.name: entry for entry in workflows if entry.schedule is not None}
        rows = Schedule.objects.using(self.using).filter(declared__isnull=False)
        found = {row.declared: row for row in rows}
        for name, entry in declared.items():
            values = _declared(entry)
            row = found.pop(name, None)
            if row is None:
                try:
                    with self.write():
                        Schedule(declared=name, next_run=now or self.clock(), **values).save(using=self.using)
                except IntegrityError:
                    if not rows.filter(declared=name).exists():
                        raise  # Not for its name, which another worker has made meanwhile.
            elif row.error == GONE or any(getattr(row, key) != value for key, value in values.items()):
                self._change(row, values)
        for row in found.values():
            if row.enabled:
                rows.filter(pk=row.pk, enabled=True).update(enabled=False, error=GONE)

    def _change(self, row: Schedule, values: dict[str, Any]) -> None:
        with self.write():
            row = Schedule.objects.using(self.using).select_for_update().get(pk=row.pk)
            for key, value in values.items():
                setattr(row, key, value)
            if row.error == GONE:
                row.enabled = True
            row.save()

    # Waiting for the end of jobs.

    @contextmanager
    def listening(self, job_ids: Collection[Any]) -> Iterator[Callable[[float], None]]:
        """Yield what pauses for so many seconds, or until one of these jobs may have ended."""
        yield time.sleep

    def tell_ended(self, job_ids: Collection[Any]) -> None:
        """Wake those who wait for the end of these jobs."""

    # Queues.

    def news(self) -> News:
        """Tell what there may be for upkeep to do; a store that cannot say so cheaply says everything."""
        return News(self.paused())

    def paused(self) -> frozenset[str]:
        """Return the names of the queues from which nothing is to be claimed."""
        return frozenset(PausedQueue.objects.using(self.using).values_list("name", flat=True).order_by())

    # Worker processes.

    def report(self, process: WorkerProcess) -> None:
        """Note that a worker process lives; a new one forgets those that are long gone."""
        if process._state.adding:
            self._forget()
        process.seen = self.clock()
        process.save(using=self.using)

    def leave(self, worker: str) -> None:
        """Forget a worker process that ends."""
        self._forget(worker)

    def _forget(self, *workers: str) -> None:
        """Forget these worker processes, and those that have not been seen for a day."""
        before = self.clock() - datetime.timedelta(seconds=FORGET_SECONDS)
        rows = WorkerProcess.objects.using(self.using)
        # As one statement: a transaction around it would be two more.
        rows.filter(models.Q(name__in=workers) | models.Q(seen__lt=before))._raw_delete(self.using)

    def write(self) -> AbstractContextManager[Any]:
        """Return a transaction that is going to write."""
        return transaction.atomic(using=self.using)

    def recorded(self, transitions: Iterable[Transition], *, worker: str) -> dict[Any, str]:
        """Return the states of those that an earlier try has written, though its answer was lost."""
        claims = {transition.job_id: transition.claim for transition in transitions}
        runs = TaskRun.objects.using(self.using).filter(job__in=claims, worker=worker)
        written = runs.exclude(outcome="lost").values_list("job_id", "claim", "job__state")
        return {pk: state for pk, claim, state in written if claims[pk] == claim}

    def release(
        self, jobs: Iterable[Job], *, worker: str, now: datetime.datetime | None = None
    ) -> dict[Any, str]:
        """Give jobs back as the claim found them, no attempt counted; answer as `record` does."""
        given_back = [decide(job, GivenBack(), (), RetryPolicy(), 0.0) for job in jobs]
        if not given_back:
            return {}
        return self.record(given_back, worker=worker, lease_seconds=0, now=now)


def _declared(entry: Workflow) -> dict[str, Any]:
    """Return the columns of the schedule that an entry of JOBS declares."""
    declared = entry.schedule
    assert declared is not None
    return {
        "name": entry.name,
        "path": entry.name,
        "kind": Schedule.KINDS.CRON.value,
        "cron": declared.cron,
        "time_zone": declared.time_zone,
        "catch_up": declared.catch_up,
        "no_overlap": declared.no_overlap,
        "date_keyword": declared.date_keyword,
        "workspace": declared.workspace,
    }
