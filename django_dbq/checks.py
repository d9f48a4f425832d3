"""System checks of JOBS and DBQ. Their ids are stable; docs/reference/checks.md lists them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register, run_checks
from django.utils.module_loading import import_string

from django_dbq import conf
from django_dbq.engine.workflow import TASK_PATH_MAX, Problem, Workflow, is_path, parse_backend
from django_dbq.exceptions import nearest

_JOBS_IDS = {"type": "dbq.E001", "unknown": "dbq.E002", "value": "dbq.E003"}
_DBQ_IDS = {"type": "dbq.E011", "unknown": "dbq.E012", "value": "dbq.E013"}
_TASKS_IDS = {"type": "dbq.E021", "unknown": "dbq.E022", "value": "dbq.E023"}
_HOOKS = ("creation_hook", "pre_task_hook", "post_task_hook", "failure_hook")
_TAG = "django_dbq"
_BACKEND = "django_dbq.backend.JobBackend"


@register(_TAG)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that JOBS and DBQ can be used, and that every path in them imports."""
    jobs = getattr(settings, "JOBS", {})
    found, problems = conf.parse_jobs(jobs)
    messages = [_message(problem, _JOBS_IDS) for problem in problems]
    for name in jobs if isinstance(jobs, dict) else ():
        if name in found:
            messages += _unusable_paths(found[name])
        else:  # A fault of its own hides none of its paths.
            for where, path in _paths_in(jobs[name]):
                if is_path(path) and len(path) <= TASK_PATH_MAX:
                    messages += _unusable(f"JOBS[{name!r}]{where}", path)
    _, problems = conf.parse_options(getattr(settings, "DBQ", {}))
    return messages + [_message(problem, _DBQ_IDS) for problem in problems]


def check_backend(where: str, options: Any) -> Iterator[CheckMessage]:
    """Check the OPTIONS of a django.tasks backend."""
    found, problems = parse_backend(where, options)
    database = found.get("database")
    if database is not None and database not in settings.DATABASES:
        message = f"{database!r} is not in DATABASES, which has {', '.join(settings.DATABASES)}"
        problems.append(Problem("value", f"{where}['database']", message))
    yield from (_message(problem, _TASKS_IDS) for problem in problems)
    for key in ("on", "not_on"):
        for path in found.get("retry", {}).get(key, ()):
            yield from _not_an_exception(f"{where}['retry'][{key!r}]", path)


def own_messages() -> list[CheckMessage]:
    """Return what `manage.py check` says of this package's settings: JOBS, DBQ, Q_CLUSTER and TASKS."""
    found = [*run_checks(tags=[_TAG]), *_of_backends()]
    return [message for message in found if not message.is_silenced()]


def _of_backends() -> Iterator[CheckMessage]:
    """Check TASKS, which Django does together with the backends of others, under no tag."""
    backends = getattr(settings, "TASKS", {})
    for alias, given in backends.items() if isinstance(backends, dict) else ():
        if isinstance(given, dict) and given.get("BACKEND") == _BACKEND:
            yield from check_backend(f"TASKS[{alias!r}]['OPTIONS']", given.get("OPTIONS", {}))


def _message(problem: Problem, ids: dict[str, str]) -> CheckMessage:
    return Error(str(problem), id=ids[problem.kind])


def _unusable_paths(entry: Workflow) -> Iterator[CheckMessage]:
    where = f"JOBS[{entry.name!r}]"
    for index, task in enumerate(entry.tasks):
        yield from _unusable(f"{where}['tasks'][{index}]", task.path)
        for key in ("on", "not_on"):
            for path in getattr(task.retry, key):
                yield from _not_an_exception(f"{where}['tasks'][{index}]['retry'][{key!r}]", path)
    for hook in _HOOKS:
        path = getattr(entry, hook)
        if path is not None:
            yield from _unusable(f"{where}[{hook!r}]", path)


def _paths_in(entry: Any) -> Iterator[tuple[str, Any]]:
    """Yield what stands where the paths of an entry do that could not be read, each after its place."""
    given = entry if isinstance(entry, dict) else {"tasks": entry}
    tasks = given.get("tasks")
    for index, item in enumerate(tasks if isinstance(tasks, (list, tuple)) else ()):
        yield f"['tasks'][{index}]", item.get("task") if isinstance(item, dict) else item
    for hook in _HOOKS:
        yield f"[{hook!r}]", given.get(hook)


def _unusable(where: str, path: str) -> Iterator[CheckMessage]:
    try:
        function = import_string(path)
    except (Exception, SystemExit) as error:  # A module may even exit.
        yield _not_found(where, path, error)
        return
    if not callable(function):
        yield Error(f"{where}: {path!r} is not callable", id="dbq.E005")


def _not_found(where: str, path: str, error: BaseException) -> CheckMessage:
    hint = _nearest_path(path)
    extra = f". Did you mean {hint!r}?" if hint else ""
    return Error(f"{where}: {path!r} does not import: {type(error).__name__}: {error}{extra}", id="dbq.E004")


def _nearest_path(path: str) -> str | None:
    """Return `path` with the first part that is not there replaced by the most similar one that is."""
    parts = path.split(".") if "." in path else ["builtins", path]
    for end in range(len(parts) - 1, -1, -1):
        try:
            names = _names_in(".".join(parts[:end]))
        except (Exception, SystemExit):
            continue  # Said already: this is the path that does not import.
        hint = nearest(parts[end], names)
        return None if hint in (None, parts[end]) else ".".join([*parts[:end], str(hint), *parts[end + 1 :]])
    return None


def _names_in(package: str) -> list[str]:
    if not package:
        return sorted({config.name.split(".")[0] for config in apps.get_app_configs()})
    module = import_module(package)
    return [*dir(module), *(found.name for found in iter_modules(getattr(module, "__path__", ())))]


def _not_an_exception(where: str, path: str) -> Iterator[CheckMessage]:
    try:
        found = import_string(path if "." in path else f"builtins.{path}")
    except Exception as error:
        yield _not_found(where, path, error)
        return
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        yield Error(f"{where}: {path!r} is not an exception class", id="dbq.E006")
