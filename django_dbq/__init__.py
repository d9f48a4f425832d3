"""Durable, named, multi-step jobs for Django, on the database a project already has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_dbq.engine.directives import Finish, GoTo, Snooze
    from django_dbq.exceptions import (
        Abort,
        DBQError,
        LeaseLost,
        Retry,
        SettingsError,
        TaskTimeout,
        UnknownJob,
        WorkerLost,
        WorkspaceError,
    )
    from django_dbq.models import Job, TaskRun

__version__ = "4.0.0"

# Loaded when first asked for: a model cannot be imported before the apps are ready.
_HOME = {
    "Abort": "exceptions",
    "DBQError": "exceptions",
    "Finish": "engine.directives",
    "GoTo": "engine.directives",
    "Job": "models",
    "LeaseLost": "exceptions",
    "Retry": "exceptions",
    "SettingsError": "exceptions",
    "Snooze": "engine.directives",
    "TaskRun": "models",
    "TaskTimeout": "exceptions",
    "UnknownJob": "exceptions",
    "WorkerLost": "exceptions",
    "WorkspaceError": "exceptions",
}

__all__ = [
    "Abort",
    "DBQError",
    "Finish",
    "GoTo",
    "Job",
    "LeaseLost",
    "Retry",
    "SettingsError",
    "Snooze",
    "TaskRun",
    "TaskTimeout",
    "UnknownJob",
    "WorkerLost",
    "WorkspaceError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
