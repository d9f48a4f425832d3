"""Workflow and Task, read from one JOBS entry; and where a job stands when the entry has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.schedule import check_cron, zone
from django_dbq.engine.workspace import storable
from django_dbq.exceptions import DELAY_SECONDS_MAX, ScheduleError, nearest

QUEUE_NAME_MAX = 100
TASK_PATH_MAX = 255
JOB_NAME_MAX = 100
CRON_MAX = 100
KEYWORD_MAX = 100
SMALLINT_MAX = 32_767
NO_RETRY = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Task:
    """One function of a workflow, with its options settled."""

    path: str
    retry: RetryPolicy = NO_RETRY
    timeout_seconds: float | None = None
    atomic: bool | None = None  # None: as DBQ["ATOMIC_TASKS"] says.


@dataclass(frozen=True, slots=True)
class Declared:
    """The schedule that a JOBS entry declares."""

    cron: str
    time_zone: str = ""  # Empty: TIME_ZONE of the settings.
    catch_up: bool = False
    no_overlap: bool = False
    date_keyword: str = ""
    workspace: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workflow:
    """The JOBS entry of one name."""

    name: str
    tasks: tuple[Task, ...]
    queue_name: str = "default"
    priority: int = 0
    creation_hook: str | None = None
    pre_task_hook: str | None = None
    post_task_hook: str | None = None
    failure_hook: str | None = None
    schedule: Declared | None = None

    @property
    def plan(self) -> tuple[str, ...]:
        """The task paths, in order."""
        return tuple(task.path for task in self.tasks)

    def task(self, path: str, position: int) -> Task:
        """Return the options for `path`: those at `position`, else its first, else the job's own."""
        if position < len(self.tasks) and self.tasks[position].path == path:
            return self.tasks[position]
        for task in self.tasks:
            if task.path == path:
                return task
        return Task(path)


def locate(plan: Sequence[str], position: int, next_task: str) -> int | None:
    """Return where `next_task` stands in `plan`, or None when it does not.

    `next_task` is the truth and `position` the memory: workers of the original
    package move `next_task` alone, and a deploy may have moved the task. Of a task
    that stands more than once the first from `position` on is meant.
    """
    if position < len(plan) and plan[position] == next_task:
        return position
    for start in (position, 0):
        for index in range(start, len(plan)):
            if plan[index] == next_task:
                return index
    return None


def is_path(value: object) -> bool:
    """Tell whether this is a dotted path, whatever it leads to."""
    return isinstance(value, str) and "." in value and all(part.isidentifier() for part in value.split("."))


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault in a setting: which kind, where, and what is wrong."""

    kind: str  # "type" | "unknown" | "value"
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(slots=True)
class _Reader:
    """Collects the problems of one JOBS entry while its values are read."""

    problems: list[Problem] = field(default_factory=list)

    def fault(self, kind: str, where: str, message: str) -> None:
        self.problems.append(Problem(kind, where, message))

    def options(self, where: str, given: Any, known: dict[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
        """Return the known options of `given` that read well; note the others."""
        if not isinstance(given, dict):
            self.fault("type", where, f"must be a dictionary, not {_kind(given)}")
            return {}
        found = {}
        for key, value in given.items():
            read = known.get(key)
            if read is None:
                hint = nearest(str(key), known)
                extra = f"Did you mean {hint!r}?" if hint else f"Known: {', '.join(sorted(known))}."
                self.fault("unknown", where, f"has no option {key!r}. {extra}")
                continue
            before = len(self.problems)
            value = read(f"{where}[{key!r}]", value)
            if len(self.problems) == before:
                found[key] = value
        return found

    def path(self, where: str, value: Any) -> Any:
        if not isinstance(value, str):
            self.fault("type", where, f"must be a dotted path as a string, not {_kind(value)}")
        elif not is_path(value):
            self.fault("value", where, f"{value!r} is not a dotted path such as 'app.jobs.function'")
        elif len(value) > TASK_PATH_MAX:
            self.fault("value", where, f"is {len(value)} characters long; at most {TASK_PATH_MAX}")
        return value

    def hook(self, where: str, value: Any) -> Any:
        return None if value is None else self.path(where, value)

    def queue_name(self, where: str, value: Any) -> Any:
        if not isinstance(value, str) or not value or not storable(value):
            self.fault("type", where, f"must be a queue's name, not {value!r}")
        elif value != value.strip():
            self.fault("value", where, f"{value!r} begins or ends with white space, which nobody sees")
        elif len(value) > QUEUE_NAME_MAX:
            self.fault("value", where, f"is {len(value)} characters long; at most {QUEUE_NAME_MAX}")
        return value

    def number(
        self, where: str, value: Any, least: float = 0, most: float | None = None, whole: bool = False
    ) -> Any:
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            self.fault("type", where, f"must be a {'whole ' if whole else ''}number, not {value!r}")
        elif not (least <= value < float("inf") and (most is None or value <= most)):
            span = f"at least {least:g}" if most is None else f"from {least:.12g} to {most:.12g}"
            self.fault("value", where, f"must be {span}, not {value!r}")
        return value

    def whole(self, where: str, value: Any) -> Any:
        return self.number(where, value, least=1, whole=True)

    def seconds(self, where: str, value: Any) -> Any:
        return self.number(where, value, most=DELAY_SECONDS_MAX)

    def timeout(self, where: str, value: Any) -> Any:
        return None if value is None else self.number(where, value, least=0.001)

    def smallint(self, where: str, value: Any) -> Any:
        return self.number(where, value, least=-SMALLINT_MAX - 1, most=SMALLINT_MAX, whole=True)

    def backoff(self, where: str, value: Any) -> Any:
        return self.number(where, value, least=1)

    def flag(self, where: str, value: Any) -> Any:
        if not isinstance(value, bool):
            self.fault("type", where, f"must be True or False, not {value!r}")
        return value

    def exceptions(self, where: str, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            self.fault("type", where, f"must be a list of exception paths, not {_kind(value)}")
            return ()
        for index, path in enumerate(value):
            if isinstance(path, str) and path.isidentifier():
                continue  # A builtin such as "ValueError".
            self.path(f"{where}[{index}]", path)
        return tuple(value)

    def database(self, where: str, value: Any) -> Any:
        if not isinstance(value, str):
            self.fault("type", where, f"must be the alias of a database, not {_kind(value)}")
        return value

    def attempts(self, where: str, value: Any) -> Any:
        return None if value is None else self.whole(where, value)

    def retry_options(self, where: str, value: Any) -> dict[str, Any]:
        return self.options(
            where,
            value,
            {
                "max_attempts": self.attempts,
                "delay_seconds": self.seconds,
                "backoff": self.backoff,
                "max_delay_seconds": self.seconds,
                "jitter": self.flag,
                "on": self.exceptions,
                "not_on": self.exceptions,
            },
        )

    def retry(self, where: str, value: Any) -> Any:
        return RetryPolicy(**self.retry_options(where, value))

    def schedule(self, where: str, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict):
            return Declared(self.cron(where, value))
        known: dict[str, Callable[[str, Any], Any]] = {
            "cron": self.cron,
            "time_zone": self.time_zone,
            "catch_up": self.flag,
            "no_overlap": self.flag,
            "date_keyword": self.text,
            "workspace": self.workspace,
        }
        found = self.options(where, value, known)
        if "cron" not in value:
            self.fault("value", where, 'needs the key "cron", a line such as "0 6 * * 1-5"')
        return Declared(**{"cron": "", **found})

    def cron(self, where: str, value: Any) -> Any:
        if not isinstance(value, str):
            self.fault("type", where, f"must be a cron line such as '0 6 * * 1-5', not {_kind(value)}")
        elif len(value) > CRON_MAX:
            self.fault("value", where, f"is {len(value)} characters long; at most {CRON_MAX}")
        else:
            self.checked(where, check_cron, value)
        return value

    def time_zone(self, where: str, value: Any) -> Any:
        if not isinstance(value, str):
            self.fault("type", where, f"must be the name of a time zone, not {_kind(value)}")
        elif value:
            self.checked(where, zone, value)
        return value

    def checked(self, where: str, check: Callable[[Any], Any], value: Any) -> None:
        try:
            check(value)
        except ScheduleError as error:
            self.fault("value", where, str(error))

    def text(self, where: str, value: Any) -> Any:
        if not isinstance(value, str) or not storable(value) or len(value) > KEYWORD_MAX:
            self.fault("type", where, f"must be text of at most {KEYWORD_MAX} characters, not {value!r}")
        return value

    def workspace(self, where: str, value: Any) -> Any:
        if not isinstance(value, dict):
            self.fault("type", where, f"must be a dictionary, not {_kind(value)}")
            return value
        try:
            if json.loads(json.dumps(value, allow_nan=False)) == value:
                return value
            self.fault("value", where, "is not JSON: it would come back as something else")
        except (TypeError, ValueError, RecursionError) as error:
            self.fault("value", where, f"is not JSON: {error}")
        return value

    def tasks(self, where: str, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            self.fault("type", where, f"must be a list of tasks, not {_kind(value)}")
            return []
        if not value:
            self.fault("value", where, "is empty; a job needs at least one task")
        tasks = []
        for index, item in enumerate(value):
            spot = f"{where}[{index}]"
            if isinstance(item, dict):
                found = self.options(spot, item, {"task": self.path, **self.execution()})
                if "task" not in item:
                    self.fault("value", spot, 'needs the key "task", the function\'s dotted path')
                tasks.append(found)
            else:
                tasks.append({"task": self.path(spot, item)})
        return tasks

    def execution(self) -> dict[str, Callable[[str, Any], Any]]:
        """The options that a job and each of its tasks may carry."""
        return {"retry": self.retry, "timeout_seconds": self.timeout, "atomic": self.flag}


def parse(name: Any, entry: Any) -> tuple[Workflow | None, list[Problem]]:
    """Read one entry of JOBS; return the workflow, or None, and every problem found."""
    reader = _Reader()
    where = f"JOBS[{name!r}]"
    if not isinstance(name, str):
        reader.fault("type", where, "a job's name must be a string")
    elif not name:
        reader.fault("value", where, "a job's name must not be empty")
    elif len(name) > JOB_NAME_MAX:
        reader.fault("value", where, f"the name is {len(name)} characters long; at most {JOB_NAME_MAX}")
    if isinstance(entry, (list, tuple)):
        found = {"tasks": reader.tasks(where, entry)}
    elif isinstance(entry, dict):
        found = reader.options(
            where,
            entry,
            {
                "tasks": reader.tasks,
                "queue_name": reader.queue_name,
                "priority": reader.smallint,
                "creation_hook": reader.hook,
                "pre_task_hook": reader.hook,
                "post_task_hook": reader.hook,
                "failure_hook": reader.hook,
                "schedule": reader.schedule,
                **reader.execution(),
            },
        )
        if "tasks" not in entry:
            reader.fault("value", where, 'needs the key "tasks", a list of task paths')
    else:
        reader.fault("type", where, f"must be a list of tasks or a dictionary, not {_kind(entry)}")
    if reader.problems:
        return None, reader.problems
    shared = {key: found.pop(key) for key in reader.execution() if key in found}
    tasks = tuple(
        Task(**{"path" if key == "task" else key: value for key, value in {**shared, **task}.items()})
        for task in found.pop("tasks")
    )
    return Workflow(name=name, tasks=tasks, **found), []


def parse_execution(given: Any) -> tuple[dict[str, Any], list[Problem]]:
    """Read the options of one function call, where they stand in `meta`.

    Those of `retry` come back as they were given: they change the policy of calls.
    """
    reader = _Reader()
    known = {
        **reader.execution(),
        "retry": reader.retry_options,
        "queue_name": reader.queue_name,
        "hook": reader.path,
        "save": reader.flag,
    }
    return reader.options("meta", given, known), reader.problems


def parse_backend(where: str, given: Any) -> tuple[dict[str, Any], list[Problem]]:
    """Read the OPTIONS of a django.tasks backend. Those of `retry` come back as they were given."""
    reader = _Reader()
    known = {**reader.execution(), "retry": reader.retry_options, "database": reader.database}
    return reader.options(where, given, known), reader.problems


def _kind(value: Any) -> str:
    return f"{type(value).__name__} ({value!r})" if value is not None else "None"
