"""Schedules of django-q."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import IntegrityError, router
from django.utils import timezone

from django_dbq.compat.django_q_settings import cluster as settings_of
from django_dbq.compat.django_q_tasks import execution_of, split_options
from django_dbq.exceptions import CallError
from django_dbq.models import Schedule

_TYPES = {
    "O": Schedule.KINDS.ONCE,
    "I": Schedule.KINDS.MINUTES,
    "H": Schedule.KINDS.HOURLY,
    "D": Schedule.KINDS.DAILY,
    "W": Schedule.KINDS.WEEKLY,
    "BW": Schedule.KINDS.BIWEEKLY,
    "M": Schedule.KINDS.MONTHLY,
    "BM": Schedule.KINDS.BIMONTHLY,
    "Q": Schedule.KINDS.QUARTERLY,
    "Y": Schedule.KINDS.YEARLY,
    "C": Schedule.KINDS.CRON,
}


def schedule(func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Schedule:
    """Create a schedule of calls of `func`; return it.

    Of `kwargs` these are the schedule's: name, hook, schedule_type (Schedule.DAILY, or
    the letter of the original), minutes, repeats, next_run, cron, cluster and
    intended_date_kwarg, the argument that is given the time the call was due; and these
    are options of each call, as in `async_task`: timeout, save, ack_failure and
    q_options. The others, and `args`, are the function's.

    Raises IntegrityError for a name that another schedule has, ScheduleError or
    CallError for what could not be fired.
    """
    own = {key: kwargs.pop(key) for key in _OF_SCHEDULE if key in kwargs}
    options, kwargs = split_options(kwargs)
    for key in ("group", "task_name"):
        if options.get(key):
            raise CallError(f"{key} is no option of a schedule: the group of its calls is its name")
    own = {**{key: options.pop(key) for key in ("hook", "cluster") if key in options}, **own}
    made = unsaved_schedule(func, args, kwargs, options, **own)
    using = router.db_for_write(Schedule)
    if made.name and Schedule.objects.using(using).filter(name=made.name).exists():
        raise IntegrityError(f"there is a schedule named {made.name!r} already")
    made.save(using=using)
    return made


def schedule_defaults(cluster: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `schedule()` takes from Q_CLUSTER: the options of its calls, and its own fields.

    Raises SettingsError, and CallError for a name that no queue can have.
    """
    options = execution_of({"cluster": cluster, "sync": False})
    settings = settings_of(cluster)
    fields = {"catch_up": settings.catch_up, "time_zone": settings.time_zone or ""}
    return options, {"queue_name": options.pop("queue_name"), **fields}


_OF_SCHEDULE = (
    *("name", "hook", "schedule_type", "minutes", "repeats", "next_run", "cron", "cluster"),
    "intended_date_kwarg",
)


def unsaved_schedule(
    func: Callable[..., Any] | str,
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    name: str | None = None,
    hook: Any = None,
    schedule_type: str = Schedule.KINDS.ONCE,
    minutes: int | None = None,
    repeats: int = -1,
    next_run: datetime.datetime | None = None,
    cron: str | None = None,
    cluster: str | None = None,
    intended_date_kwarg: str | None = None,
) -> Schedule:
    """Return a schedule, not saved; `options` are those of `async_task`. Raises CallError."""
    kind = _TYPES.get(schedule_type, schedule_type)
    execution = execution_of({**options, "hook": hook, "cluster": cluster, "sync": False})
    _, fields = schedule_defaults(cluster)
    return Schedule.of_call(
        func,
        tuple(args),
        kwargs,
        execution,
        typed=True,
        name=name or "",
        kind=kind,
        minutes=minutes or 1 if kind == Schedule.KINDS.MINUTES else minutes,
        repeats=repeats,
        next_run=_moment(next_run),
        cron=cron or "",
        date_keyword=intended_date_kwarg or "",
        **fields,
    )


def _moment(value: datetime.datetime | None) -> datetime.datetime:
    return timezone.now() if value is None else value
