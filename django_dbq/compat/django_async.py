"""Function calls as jobs, as django-async has them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from django.db import models, router
from django.utils import timezone

from django_dbq import calls, metrics
from django_dbq.engine.lifecycle import DUE_STATES, UNFINISHED_STATES, State
from django_dbq.engine.workflow import SMALLINT_MAX
from django_dbq.exceptions import CallError
from django_dbq.models import Group, Job
from django_dbq.store import get_store
from django_dbq.store.base import STAGE_BATCH

PRIORITY = 5
AGE_MAX = 300_000  # Days; or hours.
ALGORITHMS = ("rough", "precise")


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
        # A number was the priority, which came third in the original.
        hint = (
            "; name what follows kwargs:"
            " schedule(function, args, kwargs, run_after=…, meta=…, priority=…, group=…)"
            if isinstance(run_after, int)
            else f", which is {type(run_after).__name__}"
        )
        raise CallError(f"run_after must be a datetime, not {run_after!r}{hint}")
    if meta is not None and not isinstance(meta, Mapping):
        raise CallError(f"meta must be a dictionary, not {type(meta).__name__} ({meta!r})")
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise CallError(f"priority must be a whole number, not {priority!r}")
    if not -SMALLINT_MAX - 1 <= priority <= SMALLINT_MAX:
        raise CallError(f"priority must be from {-SMALLINT_MAX - 1} to {SMALLINT_MAX}, not {priority}")
    if group is not None and not isinstance(group, (Group, str)):
        raise CallError(f"group must be a Group or its reference, not {group!r}")
    columns = calls.call_columns(function, args, kwargs, dict(meta or {}))
    calls.check_signature(columns["name"], args, kwargs)
    job = Job(**columns, run_after=run_after, priority=priority)
    if group is None:
        job.save()
        return job
    hints = {"instance": group} if isinstance(group, Group) else {}
    using = router.db_for_write(Job, **hints)
    with get_store(using).write():
        job.group = Group.latest_group_by_reference(group, using) if isinstance(group, str) else group
        job.save(using=using)
    return job


def deschedule(
    function: Callable[..., Any] | str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> int:
    """Cancel every waiting call of `function` with exactly these arguments; return how many.

    One that runs goes on. Raises CallError for arguments that no call can have.
    `function` may be the path of one that has gone.
    """
    # A path needs not import: the calls of a function that has gone are to be cancelled too.
    path = function if isinstance(function, str) else calls.path_of(function)
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
    using = using or router.db_for_write(Job)
    store = get_store(using)
    # As a worker's upkeep does: what still waits for its time then costs nothing to pass over.
    while store.stage() >= STAGE_BATCH:
        pass
    due = Job.objects.using(using).filter(
        models.Q(run_after__isnull=True) | models.Q(run_after__lte=store.clock()),
        staged=True,
        state__in=DUE_STATES,
    )
    if paused := store.paused():
        due = due.exclude(queue_name__in=paused)
    if prefix:
        due = due.filter(name__startswith=prefix)
    if queue_name is not None:
        due = due.filter(queue_name=queue_name)
    in_order = due.order_by("-priority", models.F("run_after").asc(nulls_last=True), "created", "id")
    ids = in_order.values_list("id", flat=True)
    if outof == 1:
        return list(ids[:limit])
    return list(islice((pk for pk in ids.iterator() if pk.int % outof == which % outof), limit))


def remove_old_jobs(remove_jobs_before_days: float = 30, resched_hours: float = 8) -> None:
    """Delete the jobs that ended more than so many days ago, and do it again in so many hours.

    Jobs of JOBS too. A group goes as a whole: its jobs stay while any of them is not
    finished, or ended later. However often this is called, one such job with these numbers
    waits. What it deletes it deletes in batches; in a scheduled call, which is atomic,
    all batches are one transaction. `manage.py delete_old_jobs` commits each.

    Raises CallError for numbers that cannot be used.
    """
    days = _number("remove_jobs_before_days", remove_jobs_before_days, 0)
    hours = _number("resched_hours", resched_hours, 0.1)
    now = timezone.now()
    get_store(router.db_for_write(Job)).prune_ended(now - datetime.timedelta(days=days))
    args = [remove_jobs_before_days, resched_hours]
    deschedule(remove_old_jobs, args)
    schedule(remove_old_jobs, args, run_after=now + datetime.timedelta(hours=hours))


def _number(name: str, value: float, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= AGE_MAX:
        raise CallError(f"{name} must be a number from {least} to {AGE_MAX}, not {value!r}")
    return value


def health(algorithm: str = "rough", using: str | None = None) -> dict[str, Any]:
    """Return how the queue does, as a dictionary that JSON can hold. Times are seconds.

    Executed means COMPLETE; remaining, or not executed, is what has not finished. Where
    counting would take long, on PostgreSQL, the states in `estimated` are counted in a
    sample of the table. An estimate of completion is None where nothing has run yet. It
    takes what has run last for what will run, and has a thread run without a pause:

    - "rough" is the jobs that remain x the average of a job, all its attempts together,
      / the threads of the workers alive;
    - "precise" adds up, / the same threads, each waiting job's tasks by the average of
      each, and what is left of the jobs that run.

    `using` is a database (the router's choice). Raises ValueError for another algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be {' or '.join(map(repr, ALGORITHMS))}, not {algorithm!r}")
    found = metrics.measure(using)
    completion = found.rough_seconds() if algorithm == "rough" else found.precise_seconds()
    remaining = found.number(*UNFINISHED_STATES)
    return {
        "queue": {
            "all-jobs": found.number(*found.by_state),
            "states": {str(state): found.number(state) for state in found.by_state},
            "estimated": [str(state) for state in found.estimated],
            "executed": found.number(State.COMPLETE),
            "executed-details": _details(found, State.COMPLETE),
            "oldest-executed": _ended(found.oldest[State.COMPLETE]),
            "most-recent-executed": _ended(found.newest[State.COMPLETE]),
            "remaining": remaining,
            "not-executed": remaining,
            "not-executed-details": _details(found, *UNFINISHED_STATES),
            "oldest-due-age": _rounded(found.oldest_due_age),
            "failed": found.number(State.FAILED),
            "failed-details": _details(found, State.FAILED),
            "cancelled": found.number(State.CANCELLED),
            "cancelled-details": _details(found, State.CANCELLED),
            "oldest-cancelled": _ended(found.oldest[State.CANCELLED]),
            "most-recent-cancelled": _ended(found.newest[State.CANCELLED]),
            "estimated-completion-current-job": _rounded(found.current_seconds()),
            "estimated-completion": _rounded(completion),
        },
        "workers": {"alive": found.workers, "threads": found.threads},
        "errors": {"number": found.failing},
    }


def _details(found: metrics.Metrics, *states: str) -> dict[str, dict[str, int]]:
    return {name: {"count": number} for name, number in found.names(*states).items()}


def _ended(job: metrics.Ended | None) -> dict[str, str] | None:
    if job is None:
        return None
    return {"id": str(job.id), "name": job.name, "finished": job.finished.isoformat()}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
