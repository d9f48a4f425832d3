"""Moves what django-async has left to run over to this engine; manage.py import_jobs calls it."""

from __future__ import annotations

import builtins
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.apps.registry import Apps
from django.db import models, transaction
from django.utils import timezone

from django_dbq import calls
from django_dbq.compat import importing
from django_dbq.compat.django_async import remove_old_jobs
from django_dbq.engine.workflow import SMALLINT_MAX
from django_dbq.exceptions import CallError, GroupError
from django_dbq.models import Group, Job
from django_dbq.store import get_store

# What stands here for a function of django-async's own.
OURS = {"async.api.remove_old_jobs": f"{remove_old_jobs.__module__}.{remove_old_jobs.__qualname__}"}

# What a row takes that is not to be moved.
LEAVE_OUT = "cancel them, by a time in the column `cancelled` of async_job"

_apps = Apps()  # Of these models' own: the project does not have them, nor do its migrations.


class AsyncGroup(models.Model):
    """A group of django-async."""

    id = models.AutoField(primary_key=True)
    reference = models.CharField(max_length=100)
    description = models.TextField(null=True)
    final_id = models.IntegerField(null=True)

    objects: ClassVar[models.Manager[AsyncGroup]] = models.Manager()

    class Meta:
        apps = _apps
        app_label = "async"
        db_table = "async_group"
        managed = False

    def __str__(self) -> str:
        return f"async_group {self.pk}"


class AsyncJob(models.Model):
    """A job of django-async: the columns that are read, and `cancelled`, which is written."""

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=100)
    args = models.TextField()
    kwargs = models.TextField()
    priority = models.IntegerField()
    scheduled = models.DateTimeField(null=True)
    executed = models.DateTimeField(null=True)
    cancelled = models.DateTimeField(null=True)
    group_id = models.IntegerField(null=True)

    objects: ClassVar[models.Manager[AsyncJob]] = models.Manager()

    class Meta:
        apps = _apps
        app_label = "async"
        db_table = "async_job"
        managed = False

    def __str__(self) -> str:
        return f"async_job {self.pk}"


class AsyncError(models.Model):
    """A failure of a job of django-async."""

    id = models.AutoField(primary_key=True)
    job_id = models.IntegerField()

    objects: ClassVar[models.Manager[AsyncError]] = models.Manager()

    class Meta:
        apps = _apps
        app_label = "async"
        db_table = "async_error"
        managed = False

    def __str__(self) -> str:
        return f"async_error {self.pk}"


@dataclass(slots=True)
class Found:
    """What there is to move, and what cannot be."""

    by_function: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    errors: int = 0  # Failures so far, of all these jobs.
    refused: list[str] = field(default_factory=list)  # Row and reason: nothing is moved then.
    left: tuple[str, ...] = ()  # It is all or nothing.

    def lines(self) -> Iterator[str]:
        """Yield what people are told."""
        yield from importing.counted("jobs", self.by_function)
        yield f"groups={self.groups} earlier errors={self.errors} refused={len(self.refused)}"


def missing_tables(using: str) -> list[str]:
    """Return which of django-async's tables a database does not have."""
    tables = (AsyncJob, AsyncGroup, AsyncError)
    return [model._meta.db_table for model in tables if not importing.has_table(model, using)]


def look(using: str) -> Found:
    """Look at everything that has not run and was not cancelled; write nothing."""
    found = Found()
    for rows in importing.pages(_waiting(using)):
        for row in rows:
            try:
                found.by_function[_job(row).name] += 1
            except CallError as error:
                found.refused.append(f"{row} ({row.name}): {error}")
    references: dict[str, AsyncGroup] = {}
    for group in _groups(using):
        found.groups += 1
        other = references.setdefault(group.reference, group)
        if other is not group:
            found.refused.append(f"{group}: {other} has jobs to run under {group.reference!r} too")
        elif (why := _refusal(group, using)) is not None:
            found.refused.append(f"{group}: {why}")
    errors = AsyncError.objects.using(using).filter(job_id__in=_waiting(using).values("pk"))
    found.errors = errors.count()
    return found


def move(using: str) -> importing.Moved:
    """Create a job for each that waits and mark its row cancelled, in one transaction; tell of it.

    Raises CallError or GroupError for what `look` would refuse; nothing is written then.
    """
    moved = 0
    with get_store(using).write():
        olds = list(_groups(using))
        groups = {old.pk: _group(old) for old in olds}
        for group in groups.values():
            group.save(using=using)
        finals: dict[int | None, Job | None] = {old.final_id: None for old in olds}
        for rows in importing.pages(_waiting(using).select_for_update()):
            jobs = [_job(row) for row in rows]
            for row, job in zip(rows, jobs, strict=True):
                job.group = groups.get(row.group_id)
                if row.pk in finals:
                    finals[row.pk] = job
            Job.objects.using(using).bulk_create(jobs)
            taken = AsyncJob.objects.using(using).filter(pk__in=[row.pk for row in rows])
            taken.update(cancelled=timezone.now())
            moved += len(jobs)
        for old in olds:
            if (final := finals[old.final_id]) is not None:
                groups[old.pk].on_completion(final)
    return importing.Moved(f"jobs={moved} groups={len(groups)}; their rows in async_job are now cancelled")


def _waiting(using: str) -> models.QuerySet[AsyncJob]:
    return AsyncJob.objects.using(using).filter(executed__isnull=True, cancelled__isnull=True)


def _groups(using: str) -> models.QuerySet[AsyncGroup]:
    """Return the groups that have jobs to run."""
    waiting = _waiting(using).order_by()
    of_jobs = models.Q(pk__in=waiting.values("group_id")) | models.Q(final_id__in=waiting.values("pk"))
    return AsyncGroup.objects.using(using).filter(of_jobs).order_by("pk")


def _job(row: AsyncJob) -> Job:
    """Return a row as a job, not saved. Raises CallError for what no worker could run."""
    args, kwargs = _json("args", row.args), _json("kwargs", row.kwargs)
    columns = calls.call_columns(_path(row.name), args, kwargs, {})
    if not -SMALLINT_MAX - 1 <= row.priority <= SMALLINT_MAX:
        raise CallError(
            f"its priority must be from {-SMALLINT_MAX - 1} to {SMALLINT_MAX}, not {row.priority}"
        )
    return Job(**columns, run_after=row.scheduled, priority=row.priority)


def _path(name: str) -> str:
    """Return the path here of a function of django-async's, of a builtin, or of any other."""
    builtin = name.removeprefix("__builtin__.")  # The module's name in Python 2.
    if "." not in builtin and hasattr(builtins, builtin):
        return f"builtins.{builtin}"
    return OURS.get(name, name)


def _json(column: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CallError(f"its {column} are not JSON: {error}") from error


def _group(old: AsyncGroup) -> Group:
    return Group(reference=old.reference, description=old.description)


def _refusal(old: AsyncGroup, using: str) -> str | None:
    """Return why a group cannot be begun, found by trying."""
    try:
        with get_store(using).write():
            _group(old).save(using=using)
            transaction.set_rollback(True, using=using)
    except GroupError as error:
        return str(error)
    return None
