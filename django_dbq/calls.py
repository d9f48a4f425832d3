"""Function calls as jobs: which functions, how a call is written down and signed, what it runs by.

The row of a call carries its arguments as text and a signature over all of it, so that
write access to the table does not mean running any function.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

from django.core import signing

from django_dbq import conf
from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.workflow import TASK_PATH_MAX, Task, Workflow, parse_execution
from django_dbq.exceptions import DELAY_SECONDS_MAX, BadSignature, CallError

if TYPE_CHECKING:
    from django_dbq.models import Job

SALT = "django_dbq.call"
NESTING_MAX = 100  # Of an argument: a worker, deeper in its stack than the caller, has to read it.

# As django-async has it: without end, ever more slowly, ever less urgently.
RETRY = RetryPolicy(
    max_attempts=None,
    delay_seconds=60.0,
    power=1.6,
    max_delay_seconds=DELAY_SECONDS_MAX,
    jitter=False,
    priority_step=-1,
)


# From a function to its path, and back.


def path_of(function: Callable[..., Any] | str) -> str:
    """Return the dotted path by which a worker finds `function`.

    Raises CallError for what no path leads to (a lambda, a nested function, a bound
    method of an instance) or what does not import.
    """
    path = function if isinstance(function, str) else _path_of_object(function)
    if path.partition(".")[0] == "__main__":
        raise CallError(f"{path!r} is in __main__, which a worker does not import; move it to a module")
    try:
        found = resolve(path)
    except (Exception, SystemExit) as error:  # A module may even exit.
        raise CallError(f"{path!r} does not import: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise CallError(f"{path!r} is not callable, but {type(found).__name__}")
    if not isinstance(function, str) and found != function:
        raise CallError(f"{path!r} leads to something else than the function given; give its path as text")
    return path


def _path_of_object(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        raise CallError(f"{function!r}: give the function itself, and its arguments as args and kwargs")
    owner: Any = getattr(function, "__self__", None)
    if inspect.ismethod(function) and not inspect.isclass(owner):
        raise CallError(
            f"{function.__qualname__} is bound to an instance, which a worker does not have."
            " Give a function that loads the instance by its key."
        )
    name, module = getattr(function, "__qualname__", None), getattr(function, "__module__", None)
    if not callable(function) or name is None or module is None:
        raise CallError(f"{function!r} is no function and no dotted path")
    if inspect.ismethod(function):
        module, name = owner.__module__, f"{owner.__qualname__}.{function.__name__}"
    if "<" in name:
        kind = "a lambda" if "<lambda>" in name else "defined within a function"
        raise CallError(f"{module}.{name} is {kind}: a worker finds functions by module and name only")
    return f"{module}.{name}"


def resolve(path: str) -> Any:
    """Return what the dotted `path` leads to: through modules first, then through attributes.

    Raises what the import raises, and ImportError where nothing is found.
    """
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        try:
            found: Any = import_module(module)
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(f"{error.name}.")):
                continue
            raise
        for index, name in enumerate(parts[end:], start=end):
            if not hasattr(found, name):
                raise ImportError(f"{'.'.join(parts[:index])} has no attribute {name!r}")
            if inspect.isclass(found) and isinstance(inspect.getattr_static(found, name), FunctionType):
                raise ImportError(f"{path} is a method of instances; static and class methods can be called")
            found = getattr(found, name)
        return found
    raise ImportError(f"no module named {parts[0]!r}" if len(parts) > 1 else f"{path!r} is no dotted path")


# From a call to its row, and back.


def call_columns(
    function: Callable[..., Any] | str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the columns that make a new job a call of `function`.

    `options` are those of a task, retry, timeout_seconds and atomic, and queue_name.
    Raises CallError, naming the argument or option, for what cannot be kept.
    """
    path = path_of(function)
    if len(path) > TASK_PATH_MAX:
        raise CallError(f"{path!r} is {len(path)} characters long; at most {TASK_PATH_MAX}")
    given_args, given_kwargs = _arguments(path, args, kwargs)
    _, problems = parse_execution(options)
    if problems:
        raise CallError("; ".join(str(problem) for problem in problems))
    kept = dict(options)
    columns = {"queue_name": kept.pop("queue_name")} if "queue_name" in kept else {}
    call = json.dumps({"args": given_args, "kwargs": given_kwargs, "options": kept})
    bytes_max = conf.options().WORKSPACE_BYTES_MAX
    if len(call) > bytes_max:
        raise CallError(
            f"the arguments of {path} are {len(call):,} bytes as JSON; at most {bytes_max:,} are kept"
            ' (DBQ["WORKSPACE_BYTES_MAX"]). Store the data elsewhere and pass its key.'
        )
    return {**columns, "name": path, "call": call, "identity": identity(path, given_args, given_kwargs)}


def identity(path: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> str:
    """Return what is the same for calls of one function with the same arguments, whatever their order.

    Raises CallError as `call_columns` does.
    """
    canonical = json.dumps([path, *_arguments(path, args, kwargs)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _arguments(
    path: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[list[Any], dict[str, Any]]:
    if args is not None and not isinstance(args, (list, tuple)):
        raise CallError(f"args of {path} must be a list or tuple, not {type(args).__name__} ({args!r})")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise CallError(f"kwargs of {path} must be a dictionary, not {type(kwargs).__name__} ({kwargs!r})")
    for index, value in enumerate(args or ()):
        _check_json(path, f"args[{index}]", value)
    for key, value in (kwargs or {}).items():
        if not isinstance(key, str):
            raise CallError(f"kwargs of {path}: the name {key!r} is not a string")
        _check_json(path, f"kwargs[{key!r}]", value)
    return list(args or ()), dict(kwargs or {})


def _check_json(path: str, where: str, value: Any) -> None:
    try:
        found = json.loads(json.dumps(value, allow_nan=False))
        same = found == _as_lists(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError(f"{where} of {path} is not JSON: {error}") from error
    if not same:
        raise CallError(f"{where} of {path} is not JSON: it would come back as {found!r}")


def _as_lists(value: Any, depth: int = 0) -> Any:
    """Return `value` with its tuples as the lists that JSON makes of them.

    Raises ValueError where it is too deep.
    """
    if depth > NESTING_MAX:
        raise ValueError(f"it is nested more than {NESTING_MAX} deep")
    if isinstance(value, (list, tuple)):
        return [_as_lists(part, depth + 1) for part in value]
    if isinstance(value, dict):
        return {key: _as_lists(part, depth + 1) for key, part in value.items()}
    return value


def sign(job: Job) -> str:
    """Return the signature of a call's row, as it now stands."""
    return sign_values(_signed(job))


def signature_holds(job: Job) -> bool:
    """Tell whether this project signed a call's row, by SECRET_KEY or one of its fallbacks."""
    return values_hold(_signed(job), job.signature)


def sign_values(values: list[Any]) -> str:
    """Return the signature of what a row says to run."""
    return signing.Signer(salt=SALT).signature(json.dumps(values))


def values_hold(values: list[Any], signature: str | None) -> bool:
    """Tell whether this project signed these values, by SECRET_KEY or one of its fallbacks."""
    signer = signing.Signer(salt=SALT)
    try:
        signer.unsign(f"{json.dumps(values)}{signer.sep}{signature or ''}")
    except signing.BadSignature:
        return False
    return True


def _signed(job: Job) -> list[Any]:
    return [str(job.pk), job.name, job.queue_name, job.call]


@dataclass(frozen=True, slots=True)
class Call:
    """What the text of a call's row holds."""

    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]


def read(text: str) -> Call:
    """Return what the text of a call's row holds."""
    return Call(**json.loads(text))


def workflow(job: Job) -> Workflow:
    """Return the workflow of one task that a call's row stands for.

    Raises BadSignature, before anything of the row is used, when it is not as it was signed.
    """
    # Its plan is itself alone: what else stands there was not written by this project.
    in_place = job.next_task == job.name and job.plan in ([job.name], (job.name,))
    if not in_place or not signature_holds(job):
        raise BadSignature(
            f"the signature of job {job.pk} does not hold: its function, arguments, options or queue are"
            " not as they were when it was created with this SECRET_KEY, so nothing was imported or run"
        )
    assert job.call is not None
    task = _task(job.name, json.dumps(read(job.call).options))
    return Workflow(name=job.name, tasks=(task,), queue_name=job.queue_name)


@functools.lru_cache(maxsize=256)
def _task(path: str, given: str) -> Task:
    options, _ = parse_execution(json.loads(given))
    retry = options.pop("retry", {})
    policy = replace(RETRY, **retry)
    if "backoff" in retry:
        policy = replace(policy, power=None)
    return Task(path, **{"atomic": True, **options}, retry=policy)
