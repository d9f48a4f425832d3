"""Moves the schedules of django-q and django-q2 over to this engine; manage.py import_jobs calls it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.apps.registry import Apps
from django.db import DatabaseError, connections, models, transaction

from django_dbq.compat.django_q import _split, unsaved_schedule
from django_dbq.exceptions import CallError, ScheduleError
from django_dbq.models import Schedule
from django_dbq.store import get_store

_apps = Apps()  # Of these models' own: the project may have removed the app.

# What every django-q has, and what came later.
_COLUMNS = (
    *("id", "name", "func", "hook", "args", "kwargs", "schedule_type"),
    *("minutes", "repeats", "next_run", "cron"),
)
_LATER_COLUMNS = ("cluster", "intended_date_kwarg")


class QSchedule(models.Model):
    """A schedule of django-q: the columns that are read, and `repeats`, which is written."""

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=100, null=True)
    func = models.CharField(max_length=256)
    hook = models.CharField(max_length=256, null=True)
    args = models.TextField(null=True)
    kwargs = models.TextField(null=True)
    schedule_type = models.CharField(max_length=2)
    minutes = models.PositiveSmallIntegerField(null=True)
    repeats = models.IntegerField()
    next_run = models.DateTimeField(null=True)
    cron = models.CharField(max_length=100, null=True)
    cluster = models.CharField(max_length=100, null=True)
    intended_date_kwarg = models.CharField(max_length=100, null=True)

    objects: ClassVar[models.Manager[QSchedule]] = models.Manager()

    class Meta:
        apps = _apps
        app_label = "django_q"
        db_table = "django_q_schedule"
        managed = False

    def __str__(self) -> str:
        return f"django_q_schedule {self.pk}"


class QTask(models.Model):
    """A task of django-q that waits: a pickle, which is not read."""

    id = models.AutoField(primary_key=True)

    objects: ClassVar[models.Manager[QTask]] = models.Manager()

    class Meta:
        apps = _apps
        app_label = "django_q"
        db_table = "django_q_ormq"
        managed = False

    def __str__(self) -> str:
        return f"django_q_ormq {self.pk}"


@dataclass(slots=True)
class Found:
    """What there is to move, and what cannot be."""

    by_function: Counter[str] = field(default_factory=Counter)
    queued: int = 0
    refused: list[str] = field(default_factory=list)  # Row and reason.

    def lines(self) -> Iterator[str]:
        """Yield what people are told."""
        yield f"schedules={self.by_function.total()}"
        for name, number in sorted(self.by_function.items()):
            yield f"  {name} {number}"
        yield f"refused={len(self.refused)}"
        if self.queued:
            yield (
                f"{self.queued} tasks wait in django_q_ormq. They are pickles, and to read one is to run"
                " what stands in it: let a qcluster of the old package run them before you stop it."
            )


def missing_tables(using: str) -> list[str]:
    """Return which of django-q's tables a database does not have."""
    name = QSchedule._meta.db_table
    return [] if name in connections[using].introspection.table_names() else [name]


def look(using: str) -> Found:
    """Look at every schedule that is still to fire; write nothing."""
    found = Found()
    for row in _rows(using):
        try:
            made = _schedule(row)
            with transaction.atomic(using=using):  # What saving it would say, without its being saved.
                made.save(using=using)
                transaction.set_rollback(True, using=using)
            if made.name and Schedule.objects.using(using).filter(name=made.name).exists():
                raise CallError(f"there is a schedule named {made.name!r} here already")
            found.by_function[made.path] += 1
        except (CallError, ScheduleError) as error:
            found.refused.append(f"{row} ({row.func}): {error}")
    if QTask._meta.db_table in connections[using].introspection.table_names():
        found.queued = QTask.objects.using(using).count()
    return found


def move(using: str) -> str:
    """Create a schedule for each and set the old one's `repeats` to 0, in one transaction; tell of it.

    Raises CallError or ScheduleError for what `look` would refuse; nothing is written then.
    """
    with get_store(using).write():
        rows = _rows(using, lock=True)
        for row in rows:
            _schedule(row).save(using=using)
        taken = QSchedule.objects.using(using).filter(pk__in=[row.pk for row in rows])
        taken.update(repeats=0)
    return f"schedules={len(rows)}; their rows in django_q_schedule have repeats=0 now"


def _rows(using: str, lock: bool = False) -> list[QSchedule]:
    # A cluster leaves alone what has no repeats left, or no next time.
    waiting = QSchedule.objects.using(using).exclude(repeats=0).filter(next_run__isnull=False)
    later = [name for name in _LATER_COLUMNS if _has(using, name)]
    if lock:
        waiting = waiting.select_for_update()
    return [QSchedule(**values) for values in waiting.order_by("pk").values(*_COLUMNS, *later)]


def _has(using: str, column: str) -> bool:
    try:
        with transaction.atomic(using=using):
            list(QSchedule.objects.using(using).values_list(column)[:1])
    except DatabaseError:
        return False
    return True


def _schedule(row: QSchedule) -> Schedule:
    """Return a row as a schedule, not saved. Raises CallError for what no worker could call."""
    options, kwargs = _split(_kwargs(row.kwargs or ""))
    if options.pop("group", None):
        raise CallError("its kwargs name a group; here the group of a schedule's calls is its name")
    cluster, hook = options.pop("cluster", None), options.pop("hook", None)
    return unsaved_schedule(
        row.func,
        _args(row.args or ""),
        kwargs,
        options,
        name=row.name,
        hook=row.hook or hook,
        schedule_type=row.schedule_type,
        minutes=row.minutes,
        repeats=max(row.repeats, -1),
        next_run=row.next_run,
        cron=row.cron,
        cluster=row.cluster or cluster,
        intended_date_kwarg=row.intended_date_kwarg,
    )


def _args(text: str) -> tuple[Any, ...]:
    """Read `1, "two"`."""
    if not text.strip():
        return ()
    found = _literal("args", text)
    return found if isinstance(found, tuple) else (found,)


def _kwargs(text: str) -> dict[str, Any]:
    """Read `{"a": 1}` or `a=1`."""
    if not text.strip():
        return {}
    if text.strip().startswith("{"):
        found = _literal("kwargs", text)
        if not isinstance(found, dict):
            raise CallError(f"its kwargs are no dictionary: {text!r:.200}")
        return found
    try:
        call = ast.parse(f"dict({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CallError(f"its kwargs cannot be read: {text!r:.200}") from error


def _literal(column: str, text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError) as error:
        raise CallError(f"its {column} cannot be read: {text!r:.200}") from error
