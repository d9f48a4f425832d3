"""The interface of a store. One instance serves one database; it keeps no state of a job."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections, models, transaction

from django_dbq.engine.lifecycle import UNBEGUN_STATES, GivenBack, State, Transition, decide
from django_dbq.engine.retry import RetryPolicy
from django_dbq.models import Group, Job, TaskRun, WorkerProcess

STAGE_BATCH = 1_000
RESCUE_BATCH = 100
PRUNE_BATCH = 1_000
WAKE_BATCH = 1_000

# What delete_old removes; STOPPING only where no lease is held: those are the original's.
PRUNED_STATES = (State.COMPLETE, State.FAILED, State.CANCELLED)


def urgency(job: Job) -> tuple[int, datetime.datetime, Any]:
    """Return what jobs of a claim are ordered by: priority high to low, due time, id."""
    return -job.priority, job.run_after or job.created, job.id


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
    def claim_by_id(self, job_ids: Collection[Any], *, worker: str, lease_seconds: float) -> list[Job]:
        """Take these jobs for `worker`, due or not, where they wait; count an attempt of each."""

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

        Attempts count anew, the workspace stays. `stuck` also takes jobs that a worker of
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
    def _prune_batch(self, before: datetime.datetime) -> int:
        """Delete up to PRUNE_BATCH finished jobs created before `before`, with their history."""

    def prune(self, before: datetime.datetime) -> int:
        """Delete finished jobs created before `before`, a bounded batch at a time; return how many."""
        total = 0
        while deleted := self._prune_batch(before):
            total += deleted
        return total

    @abstractmethod
    def expire(self, workers: Collection[str]) -> int:
        """End the leases of workers known to be dead, for the next rescue to find; return how many."""

    @abstractmethod
    def clock(self) -> datetime.datetime:
        """Return the time by the database's clock."""

    # Groups: rare, and the same for every database.

    def wait_for_group(self, job: Job, group: Group) -> bool:
        """Make a waiting job the final one of a group; tell whether it still waited.

        It is due once `wake` finds the group's other jobs complete or cancelled.
        """
        with self._write():
            waiting = Job.objects.using(self.using).filter(pk=job.pk, state__in=UNBEGUN_STATES)
            if not waiting.update(state=State.WAITING, group=group, modified=self.clock()):
                return False
            Group.objects.using(self.using).filter(pk=group.pk).update(final=job)
            return True

    def wake(self) -> int:
        """Make final jobs due whose group's other jobs are complete or cancelled; return how many."""
        jobs = Job.objects.using(self.using)
        waiting = list(jobs.filter(state=State.WAITING).values_list("pk", flat=True)[:WAKE_BATCH])
        if not waiting:
            return 0
        skip = connections[self.using].features.has_select_for_update_skip_locked
        with self._write():
            # Locked before their jobs are looked at: who adds a job to a group locks it too.
            groups = Group.objects.using(self.using).filter(final__in=waiting).order_by("pk")
            finals = dict(groups.select_for_update(skip_locked=skip).values_list("pk", "final"))
            others = jobs.filter(group__in=finals).exclude(pk__in=finals.values())
            unended = others.exclude(state__in=(State.COMPLETE, State.CANCELLED))
            for group in unended.order_by().values_list("group", flat=True).distinct():
                del finals[group]
            ready = jobs.filter(pk__in=finals.values(), state=State.WAITING)
            return int(ready.update(state=State.READY, modified=self.clock()))

    # Worker processes.

    def report(self, process: WorkerProcess) -> None:
        """Note that a worker process lives."""
        process.seen = self.clock()
        process.save(using=self.using)

    def leave(self, worker: str) -> None:
        """Forget a worker process that ends, and those that have not been seen for a day."""
        forgotten = self.clock() - datetime.timedelta(days=1)
        rows = WorkerProcess.objects.using(self.using)
        rows.filter(models.Q(name=worker) | models.Q(seen__lt=forgotten)).delete()

    def _write(self) -> AbstractContextManager[Any]:
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
