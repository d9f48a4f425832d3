"""Moves the schedules and queued tasks of django-q and django-q2 over; manage.py import_jobs calls it."""

from __future__ import annotations

import ast
import datetime
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.apps.registry import Apps
from django.db import DatabaseError, connections, models, router, transaction
from django.utils import timezone

from django_dbq import calls
from django_dbq.compat import django_q_packages as packages
from django_dbq.compat import importing
from django_dbq.compat.django_q_schedules import unsaved_schedule
from django_dbq.compat.django_q_settings import queue_database
from django_dbq.compat.django_q_tasks import columns_of_call, create_list, link_of, links_of, split_options
from django_dbq.exceptions import CallError, GroupError, ScheduleError
from django_dbq.models import Job, Schedule
from django_dbq.store import get_store

_apps = Apps()  # Of these models' own: the project may have removed the app.

# What every django-q has, and what came later.
_COLUMNS = (
    *("id", "name", "func", "hook", "args", "kwargs", "schedule_type"),
    *("minutes", "repeats", "next_run", "cron"),
)
_LATER_COLUMNS = ("cluster", "intended_date_kwarg")

# What a row takes that is not to be moved.
LEAVE_OUT = "leave them out, by 0 in the column `repeats` of django_q_schedule"


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
    """A task of django-q that waits: a pickle, signed."""

    id = models.AutoField(primary_key=True)
    key = models.CharField(max_length=100)  # The cluster's name.
    payload = models.TextField()
    lock = models.DateTimeField(null=True)  # In the future: some cluster's until then.

    objects: ClassVar[models.Manager[QTask]] = models.Manager()

    class Meta:
        apps = _apps
        app_label = "django_q"
        db_table = "django_q_ormq"
        managed = False

    def __str__(self) -> str:
        return f"django_q_ormq {self.pk}"


@dataclass(slots=True)
class Queue:
    """What becomes of the queued tasks."""

    by_function: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)  # Row, or rows, and reason.


@dataclass(slots=True)
class Found:
    """What there is to move, and what cannot be."""

    by_function: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)  # Row and reason: nothing is moved then.
    queue: Queue = field(default_factory=Queue)

    @property
    def left(self) -> list[str]:
        """Return what stays when the others are moved."""
        return self.queue.left

    def lines(self) -> Iterator[str]:
        """Yield what people are told."""
        yield from importing.counted("schedules", self.by_function)
        yield from importing.counted("queued tasks", self.queue.by_function)
        yield f"refused={len(self.refused)}"


def missing_tables(using: str) -> list[str]:
    """Return which of django-q's tables a database does not have."""
    return [] if importing.has_table(QSchedule, using) else [QSchedule._meta.db_table]


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
                raise CallError(f"there is a schedule named {made.name!r} here already, made by new code?")
            found.by_function[made.path] += 1
        except (CallError, ScheduleError) as error:
            found.refused.append(f"{row} ({row.func}): {error}")
    found.queue = _take_queue(using, write=False)
    found.queue.left.extend(_elsewhere(using))
    return found


def move(using: str) -> importing.Moved:
    """Create a schedule for each and set the old one's `repeats` to 0; then take the queued tasks over.

    The schedules go in one transaction, each batch of tasks in one of its own, with which
    their rows are deleted. Raises CallError or ScheduleError for what `look` would refuse;
    nothing is written then.
    """
    with get_store(using).write():
        rows = _rows(using, lock=True)
        for row in rows:
            _schedule(row).save(using=using)
        taken = QSchedule.objects.using(using).filter(pk__in=[row.pk for row in rows])
        taken.update(repeats=0)
    queue = _take_queue(using, write=True)
    queue.left.extend(_elsewhere(using))
    return importing.Moved(
        f"schedules={len(rows)} queued tasks={queue.by_function.total()}; in django_q_schedule they have"
        " repeats=0 now, and from django_q_ormq they are gone",
        queue.left,
    )


def _rows(using: str, lock: bool = False) -> list[QSchedule]:
    waiting = _to_fire(using)
    later = [name for name in _LATER_COLUMNS if _has(using, name)]
    if lock:
        waiting = waiting.select_for_update()
    return [QSchedule(**values) for values in waiting.order_by("pk").values(*_COLUMNS, *later)]


def _to_fire(using: str) -> models.QuerySet[QSchedule]:
    # A cluster leaves alone what has no repeats left, or no next time.
    return QSchedule.objects.using(using).exclude(repeats=0).filter(next_run__isnull=False)


def _has(using: str, column: str) -> bool:
    try:
        with transaction.atomic(using=using):
            list(QSchedule.objects.using(using).values_list(column)[:1])
    except DatabaseError:
        return False
    return True


def _schedule(row: QSchedule) -> Schedule:
    """Return a row as a schedule, not saved. Raises CallError for what no worker could call."""
    options, kwargs = split_options(_kwargs(row.kwargs or ""))
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


# Queued tasks.


def _take_queue(using: str, *, write: bool) -> Queue:
    """Create the jobs of the queued tasks, in place of their rows; without `write`, tell what would be."""
    queue = Queue()
    if queue_database(using) != using or not importing.has_table(QTask, using):
        return queue  # What is in this table, if it is there, no cluster would run.
    now = timezone.now()
    lists: dict[str, list[int]] = defaultdict(list)
    for page in importing.pages(_free(using, now).only("pk")):
        with _writing(using, write):
            _take(_locked(using, now, [row.pk for row in page], write), lists, queue, using, write)
    for label, pks in lists.items():
        try:
            with _writing(using, write):
                rows = [
                    row
                    for start in range(0, len(pks), importing.BATCH)
                    for row in _locked(using, now, pks[start : start + importing.BATCH], write)
                ]
                _take_list(label, rows, queue, using, write)
        except (CallError, GroupError) as error:
            queue.left.append(f"the {len(pks)} calls of async_iter {label!r}: {error}")
    queue.left.extend(_held(using, now))
    return queue


def _free(using: str, now: datetime.datetime) -> models.QuerySet[QTask]:
    """Return what a cluster would claim now. It moves the lock ahead of what it does claim."""
    return QTask.objects.using(using).filter(lock__lt=now)


def _writing(using: str, write: bool) -> Any:
    return get_store(using).write() if write else nullcontext()


def _locked(using: str, now: datetime.datetime, pks: Sequence[int], write: bool) -> models.QuerySet[QTask]:
    """Return these rows, without those that have been claimed or taken meanwhile."""
    rows = _free(using, now).filter(pk__in=pks).order_by("pk")
    return rows.select_for_update() if write else rows


def _held(using: str, now: datetime.datetime) -> Iterator[str]:
    held = QTask.objects.using(using).filter(lock__gte=now)
    found = held.aggregate(number=models.Count("pk"), until=models.Max("lock"))
    if found["number"]:
        yield (
            f"{found['number']} rows of django_q_ormq are locked: a cluster runs them, or was killed while it"
            " did, or they failed and wait to be tried again. Stop every qcluster, and run again after"
            f" {found['until'].isoformat(' ', 'seconds')}."
        )
    if number := QTask.objects.using(using).filter(lock=None).count():
        yield f"{number} rows of django_q_ormq: their lock is NULL, with which no cluster would run them"


def _take(rows: Iterable[QTask], lists: dict[str, list[int]], queue: Queue, using: str, write: bool) -> None:
    """Create the job of each row and delete the row; put those of an async_iter into `lists` instead."""
    found: dict[uuid.UUID, tuple[QTask, Job]] = {}
    for row in rows:
        task: dict[str, Any] = {}
        try:
            task = packages.read(row.payload)
            if task.get("iter_count"):
                lists[str(task.get("group"))].append(row.pk)
                continue
            job = _job(row, task)
            if job.pk in found:
                raise CallError(f"{found[job.pk][0]} has its id too")
            found[job.pk] = row, job
        except CallError as error:
            queue.left.append(f"{_named(row, task)}: {error}")
    for pk in Job.objects.using(using).filter(pk__in=list(found)).values_list("pk", flat=True):
        row, job = found.pop(pk)
        queue.left.append(f"{row} ({job.name}): there is a job with its id, {pk.hex}, here already")
    queue.by_function.update(job.name for _, job in found.values())
    if write:
        Job.objects.using(using).bulk_create([job for _, job in found.values()])
        _delete(using, [row for row, _ in found.values()])


def _take_list(label: str, rows: list[QTask], queue: Queue, using: str, write: bool) -> None:
    """Create the jobs of an async_iter, and the one under whose id its results will be; delete the rows.

    Raises CallError or GroupError where that cannot be, with nothing written.
    """
    if not rows:
        return  # Claimed or taken meanwhile.
    final_id = _id(label)
    tasks = [packages.read(row.payload) for row in rows]
    if any(task.get("iter_count") != len(rows) for task in tasks):
        raise CallError(
            f"it had {tasks[0].get('iter_count')!r}, and the results of the others are in django-q's cache"
        )
    if Job.objects.using(using).filter(pk=final_id).exists():
        raise CallError("there is a job with its id here already")
    parts = []
    for number, (row, task) in enumerate(zip(rows, tasks, strict=True), start=1):
        try:
            part = _job(row, {**task, "group": None, "save": None}, _after(final_id, number))
        except CallError as error:
            raise CallError(f"{_named(row, task)}: {error}") from error
        parts.append(part)
    options = {"cluster": rows[0].key, "save": tasks[0].get("save")}
    if write:
        create_list(parts[0].name, parts, final_id, options, using)
        _delete(using, rows)
    queue.by_function.update(part.name for part in parts)


def _elsewhere(using: str) -> Iterator[str]:
    """Yield what django-q keeps in another database than the one that jobs are written to."""
    orm, schedules = queue_database(using), router.db_for_write(QSchedule)
    if orm not in connections:
        yield f"Q_CLUSTER['orm'] is {orm!r}, which DATABASES does not have: its queue was not looked at"
    elif orm != using and importing.has_table(QTask, orm):
        way = f"Let a qcluster of the old release run them; or set Q_CLUSTER['orm'] to {using!r} and move"
        yield from _apart(QTask, QTask.objects.using(orm).count(), orm, using, way)
    if schedules != using and importing.has_table(QSchedule, schedules):
        yield from _apart(QSchedule, _to_fire(schedules).count(), schedules, using, "Move")


def _apart(model: type[models.Model], number: int, there: str, using: str, way: str) -> Iterator[str]:
    if number:
        yield (
            f"{number} rows of {model._meta.db_table} are in the database {there!r}, and jobs are kept in"
            f" {using!r}: no transaction spans both. {way} the rows to that table of {using!r}; or have a"
            f" router keep the jobs in {there!r}."
        )


def _delete(using: str, rows: list[QTask]) -> None:
    QTask.objects.using(using).filter(pk__in=[row.pk for row in rows]).delete()


def _named(row: QTask, task: dict[str, Any]) -> str:
    func = packages.path_of(task.get("func"))
    return f"{row} ({func})" if isinstance(func, str) else str(row)


def _job(row: QTask, task: dict[str, Any], job_id: uuid.UUID | None = None) -> Job:
    """Return a queued task as a job, not saved. Raises CallError for what no worker could call."""
    job_id = job_id or _id(task.get("id"))
    func, args, kwargs = link_of((task.get("func"), task.get("args"), task.get("kwargs")))
    group = task.get("group")
    shared = {"cluster": row.key, "group": None if group is None else str(group)}
    options = {key: task.get(key) for key in ("timeout", "save", "ack_failure")}
    options |= {"hook": packages.path_of(task.get("hook")), "task_name": task.get("name"), **shared}
    chain = task.get("chain") or []
    try:
        following = links_of([_plain_link(item) for item in chain], shared) if chain else []
        # Their ids follow that of the first one: results of a group are in the order of ids.
        then = [
            calls.link(columns(), _after(job_id, number), passes=False)
            for number, columns in enumerate(following, start=1)
        ]
    except CallError as error:
        raise CallError(f"of the chain that follows it, {error}") from error
    return Job(id=job_id, **columns_of_call(_path(func), args, kwargs, options, then=then))


def _plain_link(item: Any) -> tuple[Any, ...]:
    """Return a link of a chain with the paths of its functions."""
    func, args, kwargs = link_of(item)
    options, kwargs = split_options(kwargs)
    hook = packages.path_of(options.get("hook"))
    return _path(func), args, {**kwargs, "q_options": {**options, "hook": hook}}


def _path(func: Any) -> str:
    path = packages.path_of(func)
    if not isinstance(path, str):
        raise CallError(f"its function is no function of a module, but {func!r:.80}")
    return path


def _id(text: Any) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise CallError(f"its id is no UUID: {text!r:.80}") from error


def _after(job_id: uuid.UUID, number: int) -> uuid.UUID:
    return uuid.UUID(int=job_id.int + number)
