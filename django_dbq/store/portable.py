"""The store for SQLite, MariaDB and MySQL: the same interface through the ORM.

Each verb is one transaction. On SQLite its first statement takes the write lock, so
that two workers cannot both read and then both write.
"""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from django_dbq.engine.lifecycle import (
    DUE_STATES,
    FINISHED_STATES,
    HELD_STATES,
    UNBEGUN_STATES,
    State,
    Transition,
)
from django_dbq.models import Job, TaskRun, Unreadable, decode_workspace
from django_dbq.models.times import stored
from django_dbq.store import base

CLAIM_ROUNDS_MAX = 20  # Each takes what the one before found locked.


class PortableStore(base.Store):
    def prepare_session(self, lease_seconds: float) -> None:
        connection = connections[self.using]
        if connection.vendor == "mysql":  # Else a lock is waited for longer than a lease lasts.
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")

    def enqueue_many(self, alike: Job, workspaces: Sequence[str]) -> list[uuid.UUID]:
        names = ("name", "queue_name", "priority", "run_after")
        given = {name: getattr(alike, name) for name in names}
        jobs = [Job(workspace=decode_workspace(text), **given) for text in workspaces]
        return [job.id for job in Job.objects.using(self.using).bulk_create(jobs)]

    def claim(
        self,
        queue_names: Sequence[str],
        *,
        worker: str,
        limit: int,
        lease_seconds: float,
        now: datetime.datetime | None = None,
    ) -> list[Job]:
        with self.write():
            now = now or self.clock()
            due = Q(run_after__isnull=True) | Q(run_after__lte=now)
            waiting = self._jobs().filter(due, state__in=DUE_STATES, staged=True, queue_name__in=queue_names)
            jobs = self._take(waiting, limit)
            self._give(jobs, worker, lease_seconds, now)
            return base.in_order(jobs)

    def claim_by_id(
        self, job_ids: Collection[Any], *, worker: str, lease_seconds: float, only_due: bool = False
    ) -> list[Job]:
        with self.write():
            now = self.clock()
            waiting = self._jobs().filter(id__in=job_ids, state__in=DUE_STATES)
            if only_due:
                waiting = waiting.filter(Q(run_after__isnull=True) | Q(run_after__lte=now))
            jobs = list(self._locked(waiting))
            self._give(jobs, worker, lease_seconds, now)
            return base.in_order(jobs)

    def _give(self, jobs: list[Job], worker: str, lease_seconds: float, now: datetime.datetime) -> None:
        """Write the claim of jobs that are locked."""
        if jobs:
            until = now + datetime.timedelta(seconds=lease_seconds)
            self._jobs().filter(id__in=[job.id for job in jobs]).update(
                state=State.PROCESSING,
                claim=F("claim") + 1,
                claimed_by=worker,
                lease_until=until,
                attempt=F("attempt") + 1,
                started=Coalesce("started", models.Value(now)),
                finished=None,
                modified=now,
            )
            for job in jobs:
                _claimed(job, job.state)
                job.state, job.claimed_by, job.lease_until = State.PROCESSING, worker, until
                job.claim += 1
                job.attempt += 1
                job.started = job.started or now
                job.finished, job.modified = None, now

    def _take(self, waiting: models.QuerySet[Job], limit: int) -> list[Job]:
        """Lock up to `limit` of the most urgent jobs, passing over what others hold locked.

        Candidates are read without locks and locked by key: a locking read in claim
        order would lock every waiting row on its way.
        """
        jobs: list[Job] = []
        seen: list[Any] = []
        in_order = waiting.order_by("-priority", Coalesce("run_after", "created"), "id")
        for _ in range(CLAIM_ROUNDS_MAX):
            wanted = limit - len(jobs)
            ids = list(in_order.exclude(id__in=seen).values_list("id", flat=True)[:wanted])
            jobs += self._locked(waiting.filter(id__in=ids)) if ids else []
            seen += ids
            if len(ids) < wanted or len(jobs) >= limit:
                break
        return jobs

    def _record(
        self,
        transitions: Sequence[Transition],
        *,
        worker: str,
        lease_seconds: float,
        now: datetime.datetime | None,
    ) -> dict[Any, str]:
        sent = time.monotonic()
        with self.write():
            now = now or self.clock()
            # Locked first, so that no cancel comes between.
            rows = self._waited_for(transition.job_id for transition in transitions)
            cancelled = {pk for pk, cancel in rows.values_list("id", "cancel_requested") if cancel}
            moved = []
            for transition in sorted(transitions, key=lambda transition: str(transition.job_id)):
                values = _columns(transition, now, worker, lease_seconds)
                if transition.job_id in cancelled and not transition.finished:
                    values |= {"state": State.CANCELLED, "finished": now, "claim": transition.claim}
                    values |= {"claimed_by": None, "lease_until": None}
                if self._held(transition.job_id, transition.claim, worker).update(**values):
                    moved.append((transition, values["state"]))
            TaskRun.objects.using(self.using).bulk_create(
                [_history(transition, now, sent, worker) for transition, _ in moved if transition.run]
            )
            return {transition.job_id: state for transition, state in moved}

    def save_progress(self, job: Job, *, workspace: str, result: str | None, worker: str) -> bool:
        values: dict[str, Any] = {"workspace": json.loads(workspace), "modified": self.clock()}
        if result is not None:
            values["result"] = json.loads(result)
        return bool(self._held(job.id, job.claim, worker).update(**values))

    def extend(
        self, jobs: Collection[Job], *, worker: str, lease_seconds: float, stopping: bool = False
    ) -> dict[Any, bool]:
        with self.write():
            until = self.clock() + datetime.timedelta(seconds=lease_seconds)
            values: dict[str, Any] = {"lease_until": until}
            if stopping:
                values["state"] = State.STOPPING
            claims = {job.id: job.claim for job in jobs}
            mine = self._locked(self._jobs().filter(id__in=claims, claimed_by=worker))
            held = {
                pk: cancel
                for pk, claim, cancel in mine.values_list("id", "claim", "cancel_requested")
                if claim == claims[pk]
            }
            self._jobs().filter(id__in=held).update(**values)
            return held

    def cancel(self, job_ids: Collection[Any]) -> dict[Any, str]:
        with self.write():
            now = self.clock()
            jobs, locked = self._jobs(), dict(self._waited_for(job_ids).values_list("id", "state"))
            waiting = [pk for pk, state in locked.items() if state in UNBEGUN_STATES]
            held = [pk for pk, state in locked.items() if state in HELD_STATES]
            jobs.filter(id__in=waiting).update(state=State.CANCELLED, finished=now, modified=now)
            jobs.filter(id__in=held).update(cancel_requested=True, modified=now)
            return dict.fromkeys(waiting, str(State.CANCELLED)) | {pk: locked[pk] for pk in held}

    def deschedule(self, identity: str) -> int:
        with self.write():
            found = self._jobs().filter(identity=identity, state__in=UNBEGUN_STATES)
            locked = self._waited_for(found.values_list("id", flat=True)).values_list("id", "state")
            ids = [pk for pk, state in locked if state in UNBEGUN_STATES]
            now = self.clock()
            return self._jobs().filter(id__in=ids).update(state=State.CANCELLED, finished=now, modified=now)

    def retry(self, job_ids: Collection[Any], *, from_start: bool = False, stuck: bool = False) -> set[Any]:
        with self.write():
            retried = set()
            for job in self._waited_for(job_ids):
                is_stuck = stuck and job.state in HELD_STATES and job.claimed_by is None
                if job.state not in FINISHED_STATES and not is_stuck:
                    continue
                values: dict[str, Any] = {"attempt": 0, "lost_attempts": 0, "run_after": None}
                if job.call is not None:
                    values["result"] = None
                if from_start or not job.next_task:
                    if not job.plan:
                        continue
                    values |= {"next_task": job.plan[0], "position": 0}
                self._jobs().filter(id=job.id).update(
                    state=State.WAITING if job.ends.using(self.using).exists() else State.READY,
                    staged=True,
                    finished=None,
                    cancel_requested=False,
                    modified=self.clock(),
                    **values,
                )
                retried.add(job.id)
            self.wake()
            return retried

    def stage(self, *, now: datetime.datetime | None = None) -> int:
        due = self._jobs().filter(staged=False, run_after__lte=now or self.clock())
        # Looked at first, so that an idle worker does not take SQLite's only write lock.
        if not due.exists():
            return 0
        with self.write():
            first = self._locked(due.order_by("run_after"))
            ids = list(first.values_list("id", flat=True)[: base.STAGE_BATCH])
            return int(self._jobs().filter(id__in=ids).update(staged=True))

    def rescue(
        self,
        *,
        worker: str,
        lease_seconds: float,
        lost_attempts_max: int,
        held: Collection[Any] = (),
        now: datetime.datetime | None = None,
    ) -> tuple[list[Job], list[Job]]:
        expired = self._jobs().filter(lease_until__lt=now or self.clock(), state__in=HELD_STATES)
        expired = expired.exclude(claimed_by=worker, id__in=held)
        if not expired.exists():
            return [], []
        ready, spent = [], []
        with self.write():
            now = now or self.clock()
            for job in self._locked(expired.order_by("id"))[: base.RESCUE_BATCH]:
                holder = job.claimed_by or "an unknown worker"  # Somebody's SQL may have left none.
                why = f"WorkerLost: the lease of {holder} ran out"
                TaskRun.objects.using(self.using).get_or_create(
                    job=job,
                    claim=job.claim,
                    defaults={
                        "task": job.next_task,
                        "position": job.position,
                        "attempt": job.attempt,
                        "worker": holder,
                        "started": job.modified,
                        "finished": now,
                        "outcome": "lost",
                        "error": why,
                    },
                )
                job.lost_attempts += 1
                job.error, job.modified = why, now
                if job.cancel_requested:
                    job.claimed_by = job.lease_until = None
                    job.state, job.finished, job.cancel_requested = State.CANCELLED, now, False
                    ready.append(job)
                elif job.lost_attempts >= lost_attempts_max:
                    job.claim += 1
                    job.claimed_by = worker
                    job.state = State.PROCESSING
                    job.lease_until = now + datetime.timedelta(seconds=lease_seconds)
                    spent.append(job)
                else:
                    job.claimed_by = job.lease_until = None
                    job.state = State.READY
                    ready.append(job)
                names = (
                    *("claim", "claimed_by", "lease_until", "lost_attempts"),
                    *("state", "finished", "cancel_requested", "error", "modified"),
                )
                self._jobs().filter(id=job.id).update(**{name: getattr(job, name) for name in names})
                _claimed(job, State.READY)
        return ready, spent

    def expire(self, workers: Collection[str]) -> int:
        with self.write():
            found = self._jobs().filter(claimed_by__in=workers, lease_until__isnull=False)
            locked = self._waited_for(found.values_list("id", flat=True)).values_list("id", "claimed_by")
            ids = [pk for pk, worker in locked if worker in workers]
            past = datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC if settings.USE_TZ else None)
            return self._jobs().filter(id__in=ids).update(lease_until=past)

    def _prune_batch(
        self,
        before: datetime.datetime,
        *,
        since: datetime.datetime | None,
        states: Collection[str],
        limit: int,
    ) -> list[tuple[str, datetime.datetime]]:
        with self.write():
            jobs = self._jobs().filter(created__lte=before, state__in=states, group__isnull=True)
            jobs = jobs.exclude(state=State.STOPPING, claimed_by__isnull=False)
            if since is not None:
                jobs = jobs.filter(created__gte=since)
            found = list(self._locked(jobs.order_by("created")).values_list("id", "state", "created")[:limit])
            self._delete([pk for pk, _, _ in found])
            return [(state, created) for _, state, created in found]

    def _jobs(self) -> models.QuerySet[Job]:
        jobs: models.QuerySet[Job] = Job.objects.using(self.using)
        return jobs

    def _held(self, job_id: Any, claim: int, worker: str) -> models.QuerySet[Job]:
        return self._jobs().filter(id=job_id, claim=claim, claimed_by=worker)

    def _locked(self, jobs: models.QuerySet[Job]) -> models.QuerySet[Job]:
        skip = connections[self.using].features.has_select_for_update_skip_locked
        locked: models.QuerySet[Job] = jobs.select_for_update(skip_locked=skip)
        return locked

    def _waited_for(self, job_ids: Iterable[Any]) -> models.QuerySet[Job]:
        """Return what locks these rows, and waits for whoever has one of them.

        In one order everywhere, so that no two wait for each other. And by the key alone: through an index on
        a column that a record changes MariaDB would lock that one's entry before the row, a record after it.
        """
        rows: models.QuerySet[Job] = self._jobs().filter(id__in=list(job_ids))
        return rows.order_by("id").select_for_update()

    @contextmanager
    def write(self) -> Iterator[None]:
        with transaction.atomic(using=self.using):
            if connections[self.using].vendor == "sqlite":
                with connections[self.using].cursor() as cursor:
                    cursor.execute("UPDATE django_dbq_job SET state = state WHERE 0")
            yield

    def clock(self) -> datetime.datetime:
        connection = connections[self.using]
        if connection.vendor != "mysql":
            return timezone.now()  # SQLite has no clock but this machine's.
        with connection.cursor() as cursor:
            cursor.execute("SELECT UTC_TIMESTAMP(6)")
            now: datetime.datetime = cursor.fetchone()[0].replace(tzinfo=datetime.UTC)
        return stored(now)

    def count(self) -> base.Counts:
        counts = base.Counts()
        by_name = self._jobs().order_by().values_list("state", "name")
        for row in by_name.annotate(models.Count("pk"), models.Count("error")):
            counts.add(*row)
        return counts

    def oldest_due(self) -> datetime.datetime | None:
        now = self.clock()
        due = self._jobs().filter(Q(run_after__isnull=True) | Q(run_after__lte=now), state__in=DUE_STATES)
        oldest = due.aggregate(since=models.Min(Coalesce("run_after", "created")))
        since: datetime.datetime | None = oldest["since"]
        return since


def _claimed(job: Job, prior_state: str) -> None:
    job.prior_state = prior_state
    job.workspace = found = job.workspace or {}
    if isinstance(found, Unreadable):
        job.recorded_workspace = found.text
    else:
        job.recorded_workspace = json.dumps(found, cls=DjangoJSONEncoder)
    job.plan = tuple(job.plan) if isinstance(job.plan, list) else None  # Anybody may have written anything.


def _columns(
    transition: Transition, now: datetime.datetime, worker: str, lease_seconds: float
) -> dict[str, Any]:
    hold = transition.hold
    values: dict[str, Any] = {
        "state": transition.state,
        "next_task": transition.next_task,
        "position": transition.position,
        "attempt": transition.attempt,
        "lost_attempts": transition.lost_attempts,
        "claim": transition.claim + hold,
        "claimed_by": worker if hold else None,
        "lease_until": now + datetime.timedelta(seconds=lease_seconds) if hold else None,
        "staged": not transition.delay_seconds or transition.delay_seconds <= 0,
        "finished": now if transition.finished else None,
        "cancel_requested": False,
        "modified": now,
    }
    if transition.delay_seconds is not None:
        values["run_after"] = now + datetime.timedelta(seconds=transition.delay_seconds)
    if transition.priority is not None:
        values["priority"] = transition.priority
    if transition.workspace is not None:
        values["workspace"] = json.loads(transition.workspace)
    if transition.result is not None:
        values["result"] = json.loads(transition.result)
    if transition.error is not None or transition.state is State.COMPLETE:
        values["error"] = transition.error
    return values


def _history(transition: Transition, now: datetime.datetime, sent: float, worker: str) -> TaskRun:
    run = transition.run
    assert run is not None
    age = datetime.timedelta(seconds=sent - run.began)
    return TaskRun(
        job_id=transition.job_id,
        claim=transition.claim,
        task=run.task,
        position=run.position,
        attempt=run.attempt,
        worker=worker,
        started=now - age,
        finished=now - age + datetime.timedelta(seconds=run.seconds),
        outcome=run.outcome,
        error=run.error,
        changes=None if run.changes is None else json.loads(run.changes),
    )
