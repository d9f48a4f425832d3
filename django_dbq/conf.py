"""The settings JOBS and DBQ as typed values, read when asked for and never at import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from django_dbq.engine.workflow import Problem, Workflow, parse
from django_dbq.exceptions import SettingsError, UnknownJob, nearest


@dataclass(frozen=True, slots=True)
class Options:
    """The DBQ setting. Every option has a default; docs/reference/settings.md lists them."""

    API_FUNCTIONS: tuple[str, ...] = ()
    API_TOKEN: str = field(default="", repr=False)
    ATOMIC_TASKS: bool = False
    BACKLOG_MAX: int = 500
    BACKLOG_SECONDS: float = 0.05
    DATABASE_RETRY_SECONDS: float = 300.0
    LEASE_SECONDS: float = 30.0
    LOST_ATTEMPTS_MAX: int = 3
    PARK_SECONDS: float = 60.0
    POLL_INTERVAL_SECONDS: float = 1.0
    REDACT: tuple[str, ...] = ("password", "token", "secret", "key", "authorization")
    SAVE_LIMIT: int = 0
    TIMEOUT_GRACE_SECONDS: float = 5.0
    WORKSPACE_BYTES_MAX: int = 1_048_576


_LEAST: dict[str, float] = {
    "BACKLOG_MAX": 1,
    "BACKLOG_SECONDS": 0,
    "DATABASE_RETRY_SECONDS": 0,
    "LEASE_SECONDS": 1,
    "LOST_ATTEMPTS_MAX": 1,
    "PARK_SECONDS": 0.1,
    "POLL_INTERVAL_SECONDS": 0.01,
    "SAVE_LIMIT": 0,
    "TIMEOUT_GRACE_SECONDS": 0,
    "WORKSPACE_BYTES_MAX": 2,
}

_NOUNS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list",
}
API_TOKEN_LEAST = 16
LEASE_SECONDS_MAX = 86_400  # So long the job of a worker that died waits.

_cache: dict[str, Any] = {}


def options() -> Options:
    """Return the engine's options. Raises SettingsError when DBQ cannot be used."""
    if "DBQ" not in _cache:
        found, problems = parse_options(getattr(settings, "DBQ", {}))
        if found is None:
            raise SettingsError([str(problem) for problem in problems])
        _cache["DBQ"] = found
    return _cache["DBQ"]  # type: ignore[no-any-return]


def workflows() -> dict[str, Workflow]:
    """Return the workflows of JOBS by name. Raises SettingsError when JOBS cannot be used."""
    if "JOBS" not in _cache:
        found, problems = parse_jobs(getattr(settings, "JOBS", {}))
        if problems:
            raise SettingsError([str(problem) for problem in problems])
        _cache["JOBS"] = found
    return _cache["JOBS"]  # type: ignore[no-any-return]


def workflow(name: str) -> Workflow:
    """Return the workflow called `name`. Raises UnknownJob, naming the nearest."""
    known = workflows()
    try:
        return known[name]
    except (KeyError, TypeError):
        raise UnknownJob(name, known) from None


def task_paths() -> frozenset[str]:
    """Return every task path that stands in JOBS: the only paths of a row that may be imported."""
    if "paths" not in _cache:
        _cache["paths"] = frozenset(path for entry in workflows().values() for path in entry.plan)
    return _cache["paths"]  # type: ignore[no-any-return]


def parse_jobs(value: Any) -> tuple[dict[str, Workflow], list[Problem]]:
    """Read a value of the JOBS setting; return what could be read and every problem."""
    if not isinstance(value, dict):
        message = f"must be a dictionary of job names, not {type(value).__name__}"
        return {}, [Problem("type", "JOBS", message)]
    found, problems = {}, []
    for name, entry in value.items():
        entry, faults = parse(name, entry)
        problems += faults
        if entry is not None:
            found[name] = entry
    return found, problems


def parse_options(value: Any) -> tuple[Options | None, list[Problem]]:
    """Read a value of the DBQ setting; return the options, or None, and every problem."""
    if not isinstance(value, dict):
        return None, [Problem("type", "DBQ", f"must be a dictionary, not {type(value).__name__}")]
    known: dict[str, Any] = {field.name: type(field.default) for field in fields(Options)}
    problems = []
    for key, given in value.items():
        where = f"DBQ[{key!r}]"
        if key not in known:
            hint = nearest(str(key), known)
            extra = f"Did you mean {hint!r}?" if hint else f"Known: {', '.join(known)}."
            problems.append(Problem("unknown", "DBQ", f"has no option {key!r}. {extra}"))
            continue
        wanted = {float: (int, float), tuple: (list, tuple)}.get(known[key], known[key])
        if not isinstance(given, wanted) or (known[key] is not bool and isinstance(given, bool)):
            # A token is not shown, whatever is wrong with it.
            shown = type(given).__name__ if key == "API_TOKEN" else repr(given)
            problems.append(Problem("type", where, f"must be {_NOUNS[known[key]]}, not {shown}"))
        elif key == "API_FUNCTIONS":
            problems += _faults_of_functions(where, given)
        elif key == "API_TOKEN":
            problems += _faults_of_token(where, given)
        elif key == "REDACT":
            problems += _faults_of_patterns(where, given)
        elif key == "LEASE_SECONDS" and given > LEASE_SECONDS_MAX:
            message = f"must be at most {LEASE_SECONDS_MAX}, which is a day, not {given!r}"
            problems.append(Problem("value", where, message))
        elif (least := _LEAST.get(key)) is not None and not least <= given < float("inf"):
            problems.append(Problem("value", where, f"must be at least {least:g}, not {given!r}"))
    if problems:
        return None, problems
    lists = {key: tuple(given) for key, given in value.items() if isinstance(given, list)}
    return Options(**{**value, **lists}), []


def _faults_of_functions(where: str, paths: Sequence[Any]) -> Iterator[Problem]:
    for index, path in enumerate(paths):
        spot = f"{where}[{index}]"
        if not isinstance(path, str):
            yield Problem("type", spot, f"must be a dotted path as text, not {path!r}")
        elif not all(part.isidentifier() for part in path.removesuffix(".*").split(".")) or "." not in path:
            message = f"{path!r} is not a dotted path such as 'app.calls.function' or 'app.calls.*'"
            yield Problem("value", spot, message)


def _faults_of_patterns(where: str, patterns: Sequence[Any]) -> Iterator[Problem]:
    for index, pattern in enumerate(patterns):
        if not isinstance(pattern, str) or not pattern:
            message = f"must be a part of a key's name, as text, not {pattern!r}"
            yield Problem("type", f"{where}[{index}]", message)


def _faults_of_token(where: str, token: str) -> Iterator[Problem]:
    if token and len(token) < API_TOKEN_LEAST:
        length = len(token)
        yield Problem("value", where, f"must be at least {API_TOKEN_LEAST} characters long, not {length}")
    elif not all("!" <= character <= "~" for character in token):
        yield Problem("value", where, "may hold visible ASCII only, and no spaces: a header carries it")


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("JOBS", "DBQ"):
        _cache.clear()


setting_changed.connect(_forget, dispatch_uid="django_dbq.conf")
