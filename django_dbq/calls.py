"""Function calls as jobs: which functions, how a call is written down and signed, what it runs by.

The row of a call carries its arguments as text and a signature over all of it, so that
write access to the table does not mean running any function.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from django.core import signing

from django_dbq import conf
from django_dbq.engine.arguments import NotEncodable, decode, encode
from django_dbq.engine.lifecycle import State
from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.workflow import TASK_PATH_MAX, Task, Workflow, parse_execution
from django_dbq.exceptions import DELAY_SECONDS_MAX, BadSignature, CallError

if TYPE_CHECKING:
    from django_dbq.models import Job

SALT = "django_dbq.call"

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
    **more: Any,
) -> dict[str, Any]:
    """Return the columns that make a new job a call of `function`.

    `options` are those of a task, retry, timeout_seconds and atomic, and queue_name, hook
    and save; `more` is what else `Call` holds. Raises CallError, naming the argument or
    option, for what cannot be kept.
    """
    path = path_of(function)
    if options.get("hook") is not None:
        options = {**options, "hook": path_of(options["hook"])}
    return columns_of(path, args, kwargs, options, **more)


def columns_of(
    path: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    via: tuple[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """As `call_columns`, of a path that is not looked at: nothing is imported.

    `via` is for what is not to be called as a function is: the path of a `Via`, and what it is given.
    """
    if len(path) > TASK_PATH_MAX:
        raise CallError(f"{path!r} is {len(path)} characters long; at most {TASK_PATH_MAX}")
    given_args, given_kwargs = _arguments(path, args, kwargs)
    _, problems = parse_execution(options)
    if problems:
        raise CallError("; ".join(str(problem) for problem in problems))
    kept = dict(options)
    columns = {"queue_name": kept.pop("queue_name")} if "queue_name" in kept else {}
    content = {"args": given_args, "kwargs": given_kwargs, "options": kept}
    more = {key: value for key, value in {"via": via, **more}.items() if value}
    call = json.dumps({**content, **more})
    bytes_max = conf.options().WORKSPACE_BYTES_MAX
    if len(call) > bytes_max:
        raise CallError(
            f"the arguments of {path} are {len(call):,} bytes as JSON; at most {bytes_max:,} are kept"
            ' (DBQ["WORKSPACE_BYTES_MAX"]). Store the data elsewhere and pass its key.'
        )
    return {**columns, "name": path, "call": call, "identity": _hash(path, given_args, given_kwargs)}


def identity(path: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> str:
    """Return what is the same for calls of one function with the same arguments, whatever their order.

    Raises CallError as `call_columns` does.
    """
    return _hash(path, *_arguments(path, args, kwargs))


def _hash(path: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """Return the identity of a call with these arguments, which are encoded."""
    canonical = json.dumps([path, args, kwargs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _arguments(
    path: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[list[Any], dict[str, Any]]:
    if args is not None and not isinstance(args, (list, tuple)):
        raise CallError(f"args of {path} must be a list or tuple, not {type(args).__name__} ({args!r})")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise CallError(f"kwargs of {path} must be a dictionary, not {type(kwargs).__name__} ({kwargs!r})")
    for key in kwargs or {}:
        if not isinstance(key, str):
            raise CallError(f"kwargs of {path}: the name {key!r} is not a string")
    try:
        return (
            [encode(value, f"args[{index}]") for index, value in enumerate(args or ())],
            {str(key): encode(value, f"kwargs[{key!r}]") for key, value in (kwargs or {}).items()},
        )
    except NotEncodable as error:
        raise CallError(f"{path}: {error}") from error
    except RecursionError as error:
        raise CallError(f"{path}: an argument is nested too deep, or this call is") from error


def check(job: Job) -> None:
    """Raise CallError for a new job whose `call` is not as `call_columns` writes it."""
    try:
        assert job.call is not None
        call = read(job.call)
        fits = isinstance(call.args, list) and isinstance(call.options, dict)
        problems = parse_execution(call.options)[1] if fits else ["args or options are of another type"]
    except Exception as error:
        raise CallError(f"the call of {job.name!r} is not as schedule() writes it: {error!r}") from error
    if problems:
        raise CallError(f"the call of {job.name!r} is not as schedule() writes it: {problems[0]}")


def check_signature(path: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
    """Raise CallError for arguments that the function at `path` does not take."""
    try:
        taken = inspect.signature(resolve(path), follow_wrapped=False)
    except (TypeError, ValueError):
        return  # Some builtins do not tell.
    try:
        taken.bind(*(args or ()), **(kwargs or {}))
    except TypeError as error:
        raise CallError(f"{path}{taken} does not take these arguments: {error}") from error


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
    via: tuple[str, str] | None = None
    typed: bool = False  # The result is encoded as arguments are.
    then: list[dict[str, Any]] = field(default_factory=list)  # Links of a chain that follow.
    end_hook: str | None = None  # Of the chain: called once it has failed or is through.
    failure_hook: str | None = None  # Of the list that it is a call of.
    of: str | None = None  # The function of the list whose results it gathers.


class Via(Protocol):
    """What stands between a worker and what a call's path leads to, for one attempt."""

    function: Callable[[], Any]  # What is called; plain or `async def`.

    def __init__(self, job: Job, found: Any, call: Call) -> None:
        """Take what the path leads to. An error means that nothing of it can run here and now."""

    def begin(self) -> None:
        """Hear that the function is called next."""

    def end(self, state: State, error: BaseException | None) -> None:
        """Hear that the job ends in `state` with this attempt."""


def read(text: str) -> Call:
    """Return what the text of a call's row holds."""
    found = _loaded(text)
    args, kwargs = decode(found["args"]), {key: decode(value) for key, value in found["kwargs"].items()}
    return Call(**{**found, "args": args, "kwargs": kwargs})


@functools.lru_cache(maxsize=16)
def _loaded(text: str) -> dict[str, Any]:
    """Return the text of a call as JSON holds it; nobody may change that."""
    found: dict[str, Any] = json.loads(text)
    return found


def value_of(job: Job) -> Any:
    """Return what a job has left as its result: of a call that keeps types, what it returned."""
    typed = job.call is not None and _loaded(job.call).get("typed")
    return decode(job.result) if typed else job.result


def hooks(text: str, *, failed: bool) -> list[str]:
    """Return the paths of what is to be called now that this call has ended."""
    call = _loaded(text)
    found = [call["options"]["hook"]] if "hook" in call["options"] else []
    if "end_hook" in call and (failed or "then" not in call):
        found.append(call["end_hook"])
    if "failure_hook" in call and failed:
        found.append(call["failure_hook"])
    return found


def unwanted(text: str) -> bool:
    """Tell whether the row of this call is not to be kept once it has succeeded."""
    return _loaded(text)["options"].get("save") is False


def link(columns: dict[str, Any], job_id: uuid.UUID, *, passes: bool) -> dict[str, Any]:
    """Return a link of a chain, for `then` of the call before it, from the columns of its job.

    Its id is settled here, so that a link which runs twice is followed by one job.
    `passes`: the result before it becomes its first argument.
    """
    return {**columns, "call": json.loads(columns["call"]), "id": job_id.hex, "passes": passes}


def following(job: Job) -> dict[str, Any] | None:
    """Return the columns of the job that follows in the chain of a call that has succeeded."""
    assert job.call is not None
    found = _loaded(job.call)
    if not found.get("then"):
        return None
    columns, *rest = found["then"]
    given = columns["call"]
    if columns["passes"]:
        given = {**given, "args": [job.result, *given["args"]]}
    if rest:
        given = {**given, "then": rest}
    job_id = uuid.UUID(columns["id"])
    kept = {key: value for key, value in columns.items() if key != "passes"}
    return {**kept, "id": job_id, "call": json.dumps(given)}


def workflow(job: Job) -> Workflow:
    """Return the workflow of one task that a call's row stands for.

    Raises BadSignature, before anything of the row is used, when it is not as it was signed.
    """
    # Its plan is itself alone: what else stands there was not written by this project.
    in_place = job.next_task == job.name and job.plan in ([job.name], (job.name,))
    if not in_place or not signature_holds(job):
        raise BadSignature(
            f"the signature of job {job.pk} does not hold: its function, arguments, options or queue are"
            " not as they were when it was created with this SECRET_KEY, so nothing was imported or run."
            " If SECRET_KEY was changed, put the old key in SECRET_KEY_FALLBACKS, then retry the job."
        )
    assert job.call is not None
    call = _loaded(job.call)
    options = {key: value for key, value in call["options"].items() if key not in _AFTER}
    task = _task(job.name, json.dumps(options), "via" not in call)
    return Workflow(name=job.name, tasks=(task,), queue_name=job.queue_name)


_AFTER = ("hook", "save")  # Options of what follows a call.


@functools.lru_cache(maxsize=256)
def _task(path: str, given: str, direct: bool) -> Task:
    options, _ = parse_execution(json.loads(given))
    if not direct:  # Like a task of JOBS.
        return Task(path, **{**options, "retry": RetryPolicy(**options.get("retry", {}))})
    retry = options.pop("retry", {})
    policy = replace(RETRY, **retry)
    if "backoff" in retry:
        policy = replace(policy, power=None)
    return Task(path, **{"atomic": True, **options}, retry=policy)
