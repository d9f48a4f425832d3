"""Durable, named, multi-step jobs for Django, on the database a project already has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_dbq.compat.django_async import deschedule, health, remove_old_jobs, schedule
    from django_dbq.engine.directives import Finish, GoTo, Snooze
    from django_dbq.exceptions import (
        Abort,
        BadSignature,
        CallError,
        DBQError,
        GroupError,
        LeaseLost,
        Retry,
        ScheduleError,
        SettingsError,
        TaskTimeout,
        UnknownJob,
        WorkerLost,
        WorkspaceError,
    )
    from django_dbq.models import (
        Group,
        Job,
        Schedule,
        TaskRun,
        WorkerProcess,
        pause_queue,
        paused_queues,
        resume_queue,
    )

__version__ = "4.0.0"

# Loaded when first asked for: a model cannot be imported before the apps are ready.
_HOME = {
    "Abort": "exceptions",
    "BadSignature": "exceptions",
    "CallError": "exceptions",
    "DBQError": "exceptions",
    "Finish": "engine.directives",
    "GoTo": "engine.directives",
    "Group": "models",
    "GroupError": "exceptions",
    "Job": "models",
    "LeaseLost": "exceptions",
    "Retry": "exceptions",
    "Schedule": "models",
    "ScheduleError": "exceptions",
    "SettingsError": "exceptions",
    "Snooze": "engine.directives",
    "TaskRun": "models",
    "TaskTimeout": "exceptions",
    "UnknownJob": "exceptions",
    "WorkerLost": "exceptions",
    "WorkerProcess": "models",
    "WorkspaceError": "exceptions",
    "deschedule": "compat.django_async",
    "health": "compat.django_async",
    "pause_queue": "models",
    "paused_queues": "models",
    "remove_old_jobs": "compat.django_async",
    "resume_queue": "models",
    "schedule": "compat.django_async",
}

__all__ = [
    "Abort",
    "BadSignature",
    "CallError",
    "DBQError",
    "Finish",
    "GoTo",
    "Group",
    "GroupError",
    "Job",
    "LeaseLost",
    "Retry",
    "Schedule",
    "ScheduleError",
    "SettingsError",
    "Snooze",
    "TaskRun",
    "TaskTimeout",
    "UnknownJob",
    "WorkerLost",
    "WorkerProcess",
    "WorkspaceError",
    "deschedule",
    "health",
    "pause_queue",
    "paused_queues",
    "remove_old_jobs",
    "resume_queue",
    "schedule",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
