"""Function calls as jobs, as django-async has them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from django.db import models, router, transaction
from django.utils import timezone

from django_dbq import calls
from django_dbq.engine.lifecycle import DUE_STATES
from django_dbq.engine.workflow import SMALLINT_MAX
from django_dbq.exceptions import CallError
from django_dbq.models import Group, Job
from django_dbq.store import get_store

PRIORITY = 5


def schedule(
    function: Callable[..., Any] | str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    run_after: datetime.datetime | None = None,
    meta: Mapping[str, Any] | None = None,
    priority: int = PRIORITY,
    group: Group | str | None = None,
) -> Job:
    """Create the job of calling `function`, in the caller's transaction.

    The function's writes and the record of its result commit together. `run_after` is
    the earliest time. `meta` holds options of a task, `retry`, `timeout_seconds` and
    `atomic`, and `queue_name`. `group` is a Group or a reference: the newest group
    under it, or a new one where that is done.

    Raises CallError for what no worker could call, GroupError for a group that has
    begun, both before anything is written.
    """
    if run_after is not None and not isinstance(run_after, datetime.datetime):
        raise CallError(
            f"run_after must be a datetime, not {run_after!r}; name what follows kwargs:"
            " schedule(function, args, kwargs, run_after=…, meta=…, priority=…, group=…)"
        )
    if meta is not None and not isinstance(meta, Mapping):
        raise CallError(f"meta must be a dictionary, not {type(meta).__name__} ({meta!r})")
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise CallError(f"priority must be a whole number, not {priority!r}")
    if not -SMALLINT_MAX - 1 <= priority <= SMALLINT_MAX:
        raise CallError(f"priority must be from {-SMALLINT_MAX - 1} to {SMALLINT_MAX}, not {priority}")
    if group is not None and not isinstance(group, (Group, str)):
        raise CallError(f"group must be a Group or its reference, not {group!r}")
    options = dict(meta or {})
    columns = calls.call_columns(function, args, kwargs, options)
    job = Job(**columns, run_after=run_after, priority=priority)
    if "queue_name" in options:
        job.queue_name = options["queue_name"]
    if group is None:
        job.save()
        return job
    using = (group._state.db if isinstance(group, Group) else None) or router.db_for_write(Job)
    with transaction.atomic(using=using):
        job.group = Group.latest_group_by_reference(group, using) if isinstance(group, str) else group
        job.group.take_in(using)
        job.save(using=using)
    return job


def deschedule(
    function: Callable[..., Any] | str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> int:
    """Cancel every waiting call of `function` with exactly these arguments; return how many.

    One that runs goes on. Raises CallError as `schedule` does.
    """
    path = calls.path_of(function)
    return get_store(router.db_for_write(Job)).deschedule(calls.identity(path, args, kwargs))


def due_jobs(
    limit: int,
    *,
    which: int = 0,
    outof: int = 1,
    prefix: str = "",
    queue_name: str | None = None,
    using: str | None = None,
) -> list[uuid.UUID]:
    """Return the ids of up to `limit` jobs that are due now, in the order of django-async.

    That is: priority, then time, those with a time before those without, then creation.
    Of `outof` parts of the queue it is part `which`. `prefix` is what names begin with.
    """
    due = Job.objects.using(using or router.db_for_read(Job)).filter(
        models.Q(run_after__isnull=True) | models.Q(run_after__lte=timezone.now()),
        state__in=DUE_STATES,
        name__startswith=prefix,
    )
    if queue_name is not None:
        due = due.filter(queue_name=queue_name)
    in_order = due.order_by("-priority", models.F("run_after").asc(nulls_last=True), "created", "id")
    ids = in_order.values_list("id", flat=True)
    if outof == 1:
        return list(ids[:limit])
    return list(islice((pk for pk in ids.iterator() if pk.int % outof == which % outof), limit))
