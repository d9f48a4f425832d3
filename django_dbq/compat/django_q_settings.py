"""The Q_CLUSTER setting of django-q and django-q2: what of it has a meaning here, as typed values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.signals import setting_changed
from django.db import router

from django_dbq.engine.schedule import zone
from django_dbq.engine.workflow import QUEUE_NAME_MAX, Problem
from django_dbq.exceptions import ScheduleError, SettingsError, nearest
from django_dbq.models import Job

DEFAULT_NAME = "default"
NAME_VARIABLE = "Q_CLUSTER_NAME"  # Of the environment: `qcluster --name` sets it for its workers.


@dataclass(frozen=True, slots=True)
class Cluster:
    """The settings of one cluster: those of Q_CLUSTER, with its own of ALT_CLUSTERS above them."""

    name: str = DEFAULT_NAME  # Of its queue too.
    workers: int | None = None  # Processes; None: one for each CPU.
    recycle: int | None = None  # Jobs after which a process is replaced.
    max_rss: int | None = None  # Kilobytes above which it is.
    timeout: float | None = None  # Seconds that a task may take where the call says nothing.
    max_attempts: int | None = None  # 0: without end. None: not set.
    ack_failures: bool = False  # True: a task that failed is not tried again.
    catch_up: bool = True  # Of schedules that say nothing: fire every slot that was missed.
    save_limit: int | None = None  # Successes that are kept; below 0: none, 0: all. None: not set.
    save_limit_per: str | None = None  # A key of SAVE_LIMIT_PER.
    sync: bool = False  # async_task() runs the function at once, in the caller.
    time_zone: str | None = None  # Of schedules that say nothing.


# What the original counts successes by, and the column of a job that has it. None: all together.
SAVE_LIMIT_PER = {None: None, "group": "label", "func": "name", "name": "title"}

# What has another place here, or none. Each reason is the rest of a sentence.
MEANINGLESS = {
    "retry": "leases are renewed while a task runs, so no task is presented again before its worker is lost",
    "poll": 'DBQ["POLL_INTERVAL_SECONDS"] is how often a worker looks; on PostgreSQL it is woken besides',
    "queue_limit": "a worker takes ahead what it can run soon, DBQ['BACKLOG_MAX'] jobs at most",
    "bulk": "a worker takes ahead what it can run soon, DBQ['BACKLOG_MAX'] jobs at most",
    "cpu_affinity": "the operating system shares the processors out; use taskset or CPUAffinity of systemd",
    "guard_cycle": "the supervisor is told by the system when a worker ends, and looks at nothing in between",
    "daemonize_workers": "workers are no daemons of multiprocessing, and may start processes",
    "scheduler": "any worker fires schedules; disable a schedule to stop it",
    "label": "the admin names the app as it names every app",
    "compress": "arguments are JSON in a row, which the database compresses by itself",
    "cache": "results and workers are rows of the database",
    "cached": "a result is kept in the row of its job",
    "log_level": "LOGGING decides, under the logger django_dbq",
    "error_reporter": "a failure is logged with its traceback, which any reporter of errors takes from there",
    "testing": "tests use django_dbq.testing.run_jobs",
    **dict.fromkeys(
        ("redis", "django_redis", "iron_mq", "sqs", "mongo", "mongo_db", "broker_class"),
        "there is no broker: jobs are rows of the project's own database",
    ),
}

_ELSEWHERE = ("cluster_name", "orm", "ALT_CLUSTERS")
_KNOWN = (*(field.name for field in fields(Cluster)), *_ELSEWHERE, *MEANINGLESS)


def cluster(name: str | None = None) -> Cluster:
    """Return the settings of the cluster called `name`; None: of this process's own.

    That is the one named by the variable Q_CLUSTER_NAME of the environment, or by
    Q_CLUSTER. A name that ALT_CLUSTERS does not have gets the settings of Q_CLUSTER.
    Raises SettingsError when Q_CLUSTER cannot be used.
    """
    return _cluster(name or os.environ.get(NAME_VARIABLE) or None)


def signer_name() -> str:
    """Return the name with which django-q signs what it queues, in every cluster. Raises SettingsError."""
    _cluster(None)  # Which raises.
    return _setting().get("name") or DEFAULT_NAME


def queue_database(default: str) -> str:
    """Return the database in which django-q has its queue; `default` where Q_CLUSTER names none."""
    given = _setting()
    return str(given.get("orm") or default) if isinstance(given, dict) else default


def is_set() -> bool:
    """Tell whether the project has Q_CLUSTER."""
    return bool(_setting())


def clusters() -> list[str]:
    """Return the name of the cluster of Q_CLUSTER, then those of ALT_CLUSTERS. Raises SettingsError."""
    return list(dict.fromkeys([_cluster(None).name, *_setting().get("ALT_CLUSTERS", {})]))


@lru_cache(maxsize=64)
def _cluster(name: str | None) -> Cluster:
    given = _setting()
    problems = list(_faults(given))
    if problems:
        raise SettingsError([str(problem) for problem in problems])
    own = given.get("cluster_name") or given.get("name") or DEFAULT_NAME
    values = {**given, "name": name or own}
    # The cluster that Q_CLUSTER itself describes has no other settings.
    if name is not None and name not in (own, given.get("name")):
        alternative = given.get("ALT_CLUSTERS", {}).get(name, {})
        values |= {key: value for key, value in alternative.items() if key != "name"}
    return Cluster(
        **{field.name: values[field.name] for field in fields(Cluster) if _is_set(field.name, values)}
    )


def _is_set(key: str, values: dict[str, Any]) -> bool:
    # Where nothing else can be meant, the original takes 0 and False for "not set".
    unset = () if key in ("max_attempts", "save_limit", "catch_up") else (0, "")
    return values.get(key) is not None and values[key] not in unset


def _setting() -> Any:
    return getattr(settings, "Q_CLUSTER", {})


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "Q_CLUSTER":
        _cluster.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_dbq.compat.django_q_settings")


# Faults.

_TEXT, _WHOLE, _NUMBER, _FLAG = (str,), (int,), (int, float), (bool,)
_TYPES: dict[str, tuple[type, ...]] = {
    "name": _TEXT,
    "cluster_name": _TEXT,
    "workers": _WHOLE,
    "recycle": _WHOLE,
    "max_rss": _WHOLE,
    "timeout": _NUMBER,
    "max_attempts": _WHOLE,
    "ack_failures": _FLAG,
    "catch_up": _FLAG,
    "save_limit": _WHOLE,
    "save_limit_per": _TEXT,
    "sync": _FLAG,
    "time_zone": _TEXT,
}
_NOUNS = {_TEXT: "text", _WHOLE: "a whole number", _NUMBER: "a number", _FLAG: "True or False"}


def _faults(given: Any) -> Iterator[Problem]:
    """Yield what in a value of Q_CLUSTER cannot be used."""
    if not isinstance(given, dict):
        yield Problem("type", "Q_CLUSTER", f"must be a dictionary, not {type(given).__name__}")
        return
    yield from _faults_of_values("Q_CLUSTER", given)
    others = given.get("ALT_CLUSTERS", {})
    if not isinstance(others, dict):
        yield Problem(
            "type", "Q_CLUSTER['ALT_CLUSTERS']", f"must be a dictionary, not {type(others).__name__}"
        )
        return
    for name, values in others.items():
        where = f"Q_CLUSTER['ALT_CLUSTERS'][{name!r}]"
        if not isinstance(values, dict):
            yield Problem("type", where, f"must be a dictionary, not {type(values).__name__}")
            continue
        if not isinstance(name, str) or not 0 < len(name) <= QUEUE_NAME_MAX:
            yield Problem("type", where, f"the name must be text of 1 to {QUEUE_NAME_MAX} characters")
        yield from _faults_of_values(where, values)


def _faults_of_values(where: str, values: dict[str, Any]) -> Iterator[Problem]:
    for key, wanted in _TYPES.items():
        value, spot = values.get(key), f"{where}[{key!r}]"
        if value is None or (value is False and wanted is not _FLAG):
            continue  # As the original: not set.
        fits = isinstance(value, wanted) and (wanted is _FLAG or not isinstance(value, bool))
        if not fits:
            yield Problem("type", spot, f"must be {_NOUNS[wanted]}, not {value!r}")
        elif key in ("name", "cluster_name") and len(value) > QUEUE_NAME_MAX:
            yield Problem("value", spot, f"is {len(value)} characters long; at most {QUEUE_NAME_MAX}")
        elif key == "save_limit_per" and value not in SAVE_LIMIT_PER and value:
            known = ", ".join(repr(name) for name in SAVE_LIMIT_PER)
            yield Problem("value", spot, f"must be one of {known}, not {value!r}")
        elif key == "time_zone" and value:
            try:
                zone(value)
            except ScheduleError as error:
                yield Problem("value", spot, str(error))
        elif wanted in (_WHOLE, _NUMBER):
            least = -1 if key == "save_limit" else 0
            if not least <= value < float("inf"):
                yield Problem("value", spot, f"must be at least {least}, not {value!r}")


@register("django_dbq")
def check_q_cluster(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that Q_CLUSTER can be used, and tell what in it has no meaning here."""
    given = _setting()
    messages: list[CheckMessage] = [Error(str(problem), id="dbq.E101") for problem in _faults(given)]
    if not isinstance(given, dict):
        return messages
    messages += _warnings("Q_CLUSTER", given, _KNOWN)
    others = given.get("ALT_CLUSTERS", {})
    for name, values in others.items() if isinstance(others, dict) else ():
        if isinstance(values, dict):
            messages += _warnings(f"Q_CLUSTER['ALT_CLUSTERS'][{name!r}]", values, _KNOWN)
    return messages


def _warnings(where: str, values: dict[str, Any], known: tuple[str, ...]) -> Iterator[CheckMessage]:
    for key, value in values.items():
        if key in MEANINGLESS:
            yield Warning(f"{where}[{key!r}] has no meaning here: {MEANINGLESS[key]}", id="dbq.W101")
        elif key == "orm" and value != (using := router.db_for_write(Job)):
            yield Warning(
                f"{where}['orm'] is {value!r}, but database routers decide where jobs are kept,"
                f" and say {using!r}",
                id="dbq.W103",
            )
        elif key not in known:
            hint = nearest(str(key), known)
            extra = f". Did you mean {hint!r}?" if hint else ""
            yield Warning(f"{where} has no option {key!r}{extra}", id="dbq.W102")
