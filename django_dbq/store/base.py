"""The interface of a store. One instance serves one database; it keeps no state of a job."""

from __future__ import annotations

import datetime
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from django.db import models, transaction

from django_dbq.engine.lifecycle import (
    DUE_STATES,
    GivenBack,
    State,
    Transition,
    decide,
)
from django_dbq.models import Job, PausedQueue, TaskRun, WorkerProcess
from django_dbq.store.groups import Groups
from django_dbq.store.pruning import Pruning
from django_dbq.store.schedules import Schedules

STAGE_BATCH = 1_000
RESCUE_BATCH = 100
FORGET_SECONDS = 24 * 3600
AWAITED_SECONDS = 10.0  # For so long a worker remembers that somebody waits for a job's end.


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
class News:
    """What there may be for upkeep to do, and which queues are paused."""

    paused: frozenset[str]
    schedules_due: bool = True
    unstaged: bool = True
    waiting: bool = True
    expired: bool = True


@dataclass(slots=True)
class Batch:
    """Jobs that were claimed, whose rows nobody has read yet: `read` does, once, in any thread."""

    size: int
    read: Callable[[], list[Job]]


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs as claims are answered, the most urgent first."""
    return sorted(jobs, key=attrgetter("_urgency"))


class Store(Pruning, Groups, Schedules):
    """Every statement of the engine, for one database.

    Time is the database's clock; `now` replaces it where a caller passes one (tests
    under freezegun). What carries a claim is guarded by it: a row whose claim has
    moved on is left alone and is missing from the answer.
    """

    def prepare_connection(self, lease_seconds: float, pooled: bool = False) -> None:
        """Settle how this thread will connect, before it does: a dead network must show within a lease.

        Only tasks take connections of a pool of Django's, where the project has one (`pooled`).
        """

    def prepare_session(self, lease_seconds: float) -> None:
        """Set up the present connection for the engine's own statements."""

    def insert(self, job: Job) -> bool | None:
        """Insert a new job; tell whether its queue was told of it too, or None if Django has to insert it."""
        return None

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

    def claim_unread(
        self, queue_names: Sequence[str], *, worker: str, limit: int, lease_seconds: float
    ) -> Batch:
        """Do what `claim` does; what it brings can be read later, in another thread."""
        jobs = self.claim(queue_names, worker=worker, limit=limit, lease_seconds=lease_seconds)
        return Batch(len(jobs), lambda: jobs)

    @abstractmethod
    def claim_by_id(
        self, job_ids: Collection[Any], *, worker: str, lease_seconds: float, only_due: bool = False
    ) -> list[Job]:
        """Take these jobs for `worker` where they wait, due or not; count an attempt of each."""

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
        cancel, becomes CANCELLED instead: only the answer tells. What follows a success
        is inserted in one transaction with it.
        """
        followed = [each for each in transitions if each.follower is not None]
        if not followed:
            return self._record(transitions, worker=worker, lease_seconds=lease_seconds, now=now)
        with self.write():
            states = self._record(transitions, worker=worker, lease_seconds=lease_seconds, now=now)
            self._insert_followers(
                [each.follower for each in followed if states.get(each.job_id) == State.COMPLETE]
            )
        return states

    @abstractmethod
    def _record(
        self,
        transitions: Sequence[Transition],
        *,
        worker: str,
        lease_seconds: float,
        now: datetime.datetime | None,
    ) -> dict[Any, str]:
        """Do what `record` does, of what nothing follows."""

    def _insert_followers(self, jobs: list[Job]) -> None:
        """Insert jobs that were made ready, and heard of, where their calls ran."""
        # Django's own way: this may be the keeper, which runs nothing of the project's.
        rows: models.QuerySet[Job] = models.QuerySet(Job, using=self.using)
        rows.bulk_create(jobs)
        self.announce({job.queue_name for job in jobs})

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

    def lock(self, job: Job, *, worker: str) -> bool:
        """Keep others from a held job's row until the present transaction ends; tell if it is still held."""
        rows = Job.objects.using(self.using).filter(pk=job.pk, claim=job.claim, claimed_by=worker)
        return bool(rows.select_for_update().values_list("pk", flat=True))

    def locked(self, job_ids: Collection[Any]) -> set[Any]:
        """Return which of these rows another transaction has locked, for the moment."""
        rows = (
            Job.objects.using(self.using).filter(pk__in=job_ids).order_by("pk").values_list("pk", flat=True)
        )
        with transaction.atomic(using=self.using):
            free = set(rows.select_for_update(skip_locked=True))
        return set(rows) - free

    @abstractmethod
    def cancel(self, job_ids: Collection[Any]) -> dict[Any, str]:
        """Cancel jobs: waiting ones now, held ones at their next record. Return the states after it.

        Finished jobs are left alone and missing from the answer.
        """

    @abstractmethod
    def deschedule(self, identity: str) -> int:
        """Cancel the calls with this identity that have not begun; return how many."""

    @abstractmethod
    def retry(self, job_ids: Collection[Any], *, from_start: bool = False, stuck: bool = False) -> set[Any]:
        """Make finished jobs READY again at the task they ended at, or their first; return which.

        The final job of a group is WAITING, unless the others have ended. Attempts count
        anew, the workspace stays. `stuck` also takes jobs that a worker of
        the original package has left PROCESSING or STOPPING.
        """

    def run_now(self, job_ids: Collection[Any]) -> set[Any]:
        """Let jobs that wait for a time wait for none; return which."""
        with self.write():
            # Locked first, so that none of them is claimed meanwhile, and by the key alone.
            rows = Job.objects.using(self.using).filter(pk__in=list(job_ids))
            locked = rows.order_by("pk").select_for_update().values_list("pk", "state", "run_after")
            waiting = {pk for pk, state, run_after in locked if state in DUE_STATES and run_after is not None}
            moment = self._moment()
            rows.filter(pk__in=waiting).update(run_after=None, staged=True, modified=moment)
            return waiting

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
        held: Collection[Any] = (),
        now: datetime.datetime | None = None,
    ) -> tuple[list[Job], list[Job]]:
        """Take back jobs whose lease ran out, but for those that `worker` knows to be `held` by it.

        Somebody may have had their rows locked, so that their leases could not be renewed.

        Return those that are READY again (or CANCELLED, where that was asked for), and those
        that were lost too often: these are now held by `worker`, which has to fail them.
        """

    @abstractmethod
    def expire(self, workers: Collection[str]) -> int:
        """End the leases of workers known to be dead, for the next rescue to find; return how many."""

    @abstractmethod
    def count(self) -> Counts:
        """Count the jobs of each state and name: exactly, or quickly where a store cannot do both."""

    @abstractmethod
    def oldest_due(self) -> datetime.datetime | None:
        """Return since when the job has been due that has been due longest; None if none is due."""

    # Waiting for the end of jobs.

    @contextmanager
    def listening(self, job_ids: Collection[Any]) -> Iterator[Callable[[float], None]]:
        """Yield what pauses for so many seconds, or until one of these jobs may have ended.

        It raises what Django raises once it has lost its connection.
        """
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
        process.seen = self._moment()
        process.save(using=self.using)

    def _moment(self) -> Any:
        """Return this moment by the database's clock: a value, or an expression that a statement can hold."""
        return self.clock()

    def leave(self, worker: str) -> None:
        """Forget a worker process that ends."""
        self._forget(worker)

    def _forget(self, *workers: str) -> None:
        """Forget these worker processes, and those that have not been seen for a day."""
        before = self.clock() - datetime.timedelta(seconds=FORGET_SECONDS)
        rows = WorkerProcess.objects.using(self.using)
        # As one statement: a transaction around it would be two more.
        rows.filter(models.Q(name__in=workers) | models.Q(seen__lt=before))._raw_delete(self.using)

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
        given_back = [decide(job, GivenBack()) for job in jobs]
        if not given_back:
            return {}
        return self.record(given_back, worker=worker, lease_seconds=0, now=now)
