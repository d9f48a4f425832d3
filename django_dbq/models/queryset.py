"""`Job.objects`: many jobs at once, by the rules of one."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections, models, router, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from django_dbq import conf, signals
from django_dbq.engine.lifecycle import DUE_STATES
from django_dbq.exceptions import DBQError, GroupError
from django_dbq.models.workspace import encode_workspace

if TYPE_CHECKING:
    from django_dbq.models.job import Job

DEFAULT_DELETE_JOBS_AFTER_HOURS = 24
ENQUEUE_BATCH = 5_000  # Jobs of one statement of `enqueue_many`,
ENQUEUE_BYTES = 4_000_000  # and of their workspaces.


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, created by the rules however many are created at once."""

    def bulk_create(self, objs: Iterable[Job], *args: Any, **kwargs: Any) -> list[Job]:
        """Insert many jobs in one statement; creation hooks run for each, before it."""
        jobs = list(objs)
        self._for_write = True
        with taken_in(self.db, jobs):
            for job in jobs:
                job._make_ready()
            created = super().bulk_create(jobs, *args, **kwargs)
        for job in jobs:
            job._remember(job._WATCHED_FIELDS)
        announce(self.db, jobs)
        return created

    def enqueue_many(
        self,
        name: str,
        workspaces: Iterable[dict[str, Any]],
        *,
        queue_name: str | None = None,
        priority: int | None = None,
        run_after: datetime.datetime | None = None,
    ) -> list[uuid.UUID]:
        """Create a job of this name for each workspace, all or none; return their ids, in order.

        It builds no instance for a job, unless a creation hook or a receiver of `pre_enqueue` is to
        see it, and takes the workspaces from any iterable, some thousands at a time.

        Raises UnknownJob, WorkspaceError with the place of the workspace at fault, and GroupError when
        called on the jobs of a group.
        """
        from django_dbq.store import get_store

        if self._known_related_objects:  # type: ignore[attr-defined]
            raise GroupError(
                "enqueue_many puts no jobs into a group: use bulk_create, with group= for each job"
            )
        if self.model._meta.parents:
            raise DBQError(f"enqueue_many creates no {self.model._meta.label}: save each")
        given = {"queue_name": queue_name, "priority": priority, "run_after": run_after}
        given = {key: value for key, value in given.items() if value is not None}
        self._for_write = True
        store = get_store(self.db)
        seen = bool(conf.workflow(name).creation_hook or signals.pre_enqueue.receivers)
        ids: list[uuid.UUID] = []
        with store.write():
            alike = self.model(name=name, **given)
            if not seen:
                alike._make_ready()
            for batch in _batches(workspaces):
                if seen:
                    # Each has a workspace of its own, though the caller may have given one for all.
                    jobs = [self.model(name=name, workspace=deepcopy(each), **given) for _, each in batch]
                    ids += [job.id for job in self.bulk_create(jobs)]
                else:
                    ids += store.enqueue_many(alike, [text for text, _ in batch])
        if ids and not seen:
            announce(self.db, [alike])
        return ids

    def to_process(self, queue_name: str) -> JobQuerySet:
        """Return the due jobs of a queue, in claim order, to be locked in a transaction."""
        alias = self.select_for_update().db
        skip = connections[alias].features.has_select_for_update_skip_locked
        due = self.select_for_update(skip_locked=skip).filter(
            models.Q(run_after__isnull=True) | models.Q(run_after__lte=timezone.now()),
            queue_name=queue_name,
            state__in=DUE_STATES,
        )
        return due.order_by("-priority", Coalesce("run_after", "created"), "id")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete these jobs, with their history."""
        jobs = self._chain()  # type: ignore[attr-defined]
        jobs._for_write = True
        with transaction.atomic(using=jobs.db):
            lock_jobs(jobs.db, jobs.values("pk"))
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class JobManager(models.Manager.from_queryset(JobQuerySet)):  # type: ignore[misc]
    """`Job.objects`."""

    def get_ready_or_none(self, queue_name: str, max_retries: int = 3) -> Job | None:
        """Return the next due job of a queue, locked, or None; call it in a transaction.

        `max_retries` is accepted from callers of the original package: a claim that
        skips locked rows has no deadlock to retry.
        """
        return self.to_process(queue_name).first()  # type: ignore[no-any-return]

    def delete_old(self, hours: float | None = None) -> int:
        """Delete finished jobs created more than `hours` ago (24; 0 means all); return how many.

        Raises ValueError for a number below 0, which would take the jobs of the future too.
        """
        from django_dbq.store import get_store

        age = DEFAULT_DELETE_JOBS_AFTER_HOURS if hours is None else hours
        if not age >= 0:
            raise ValueError(f"delete_old takes a number of hours from 0 on, not {hours!r}")
        before = timezone.now() - datetime.timedelta(hours=age)
        return get_store(self._db or router.db_for_write(self.model)).prune(before).jobs.total()


def _batches(workspaces: Iterable[dict[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """Yield workspaces, each with its text before it, some thousands at a time, fewer when they are large."""
    batch: list[tuple[str, Any]] = []
    size = 0
    for place, each in enumerate(workspaces):
        text = encode_workspace({} if each is None else each, f"workspaces[{place}]")
        batch.append((text, each))
        size += len(text)
        if len(batch) >= ENQUEUE_BATCH or size >= ENQUEUE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def taken_in(using: str, jobs: Sequence[Job]) -> Iterator[None]:
    """Keep the groups that new jobs go into locked until these are inserted."""
    from django_dbq.store import get_store

    groups = {job.group.pk: job.group for job in jobs if job.group is not None}
    with get_store(using).write() if groups else nullcontext():
        for pk in sorted(groups):  # In one order everywhere.
            groups[pk].take_in(using)
        yield


def lock_jobs(using: str, pks: Any) -> None:
    """Lock jobs that are to be deleted: a worker that records one just now would leave history behind.

    First the groups that they end, as everywhere: who deletes a group has it, and wants its jobs.
    """
    groups = apps.get_model("django_dbq", "Group").objects.using(using)
    if ended := list(groups.filter(final__in=pks).values_list("pk", flat=True)):
        list(groups.filter(pk__in=ended).order_by("pk").select_for_update().values_list("pk"))
    jobs = apps.get_model("django_dbq", "Job").objects.using(using).filter(pk__in=pks)
    list(jobs.order_by("pk").select_for_update().values_list("pk"))


def announce(using: str, jobs: Sequence[Job]) -> None:
    """Wake the workers that serve these jobs' queues once the caller's transaction commits."""
    from django_dbq.store import get_store

    names: set[Any] = {job.queue_name for job in jobs if job.staged and job.state in DUE_STATES}
    # Where the database says which queue it is, polling finds the job.
    if told := {name for name in names if not hasattr(name, "resolve_expression")}:
        get_store(using).announce(told)
