"""What a task or a signed call stands for: a function that takes the job."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.utils.module_loading import import_string

from django_dbq import calls
from django_dbq.engine.arguments import NotEncodable, encode
from django_dbq.engine.directives import Finish, Snooze
from django_dbq.exceptions import DBQError, TaskUnavailable, WorkspaceError
from django_dbq.models import Job
from django_dbq.worker.errors import leave_to_the_person, line_of

# By path, the function last found there, whether it is `async def`, and where it stands: its module's name
# and its own. To import and to look at it is a tenth of a quick task.
_functions: dict[str, tuple[Callable[[Job], Any], bool, str, str]] = {}


def imported(job: Job) -> tuple[Callable[[Job], Any], bool]:
    """Return the function of the job's present task, and whether it is `async def`.

    Raises TaskUnavailable when there is none.
    """
    path = job.next_task
    try:
        if path in _functions:
            function, asynchronous, module, name = _functions[path]
            if getattr(sys.modules.get(module), name, None) is function:
                return function, asynchronous
        function = import_string(path)
    except BaseException as error:  # A module may even exit.
        leave_to_the_person(error)
        raise TaskUnavailable(
            f"the task {path!r} of job {job.name!r} does not import: {line_of(error)}"
        ) from error
    if not callable(function):
        raise TaskUnavailable(f"the task {path!r} of job {job.name!r} is not callable")
    module, _, name = path.rpartition(".")
    asynchronous = inspect.iscoroutinefunction(function)
    _functions[path] = function, asynchronous, module, name
    return function, asynchronous


def called(job: Job) -> tuple[Callable[[Job], Any], bool, calls.Via | None]:
    """Return a task that calls the function of a signed call and keeps what it returns; whether it is
    `async def`; and what stands before the function, if anything does.
    """
    try:
        function = calls.resolve(job.next_task)
    except BaseException as error:
        leave_to_the_person(error)
        raise TaskUnavailable(f"the function {job.next_task!r} does not import: {line_of(error)}") from error
    assert job.call is not None
    given, via = calls.read(job.call), None
    args, kwargs = given.args, given.kwargs
    if given.via is not None:
        path, _ = given.via
        try:
            via = import_string(path)(job, function, given)
        except BaseException as error:
            leave_to_the_person(error)
            raise TaskUnavailable(f"{path} cannot run {job.next_task!r}: {line_of(error)}") from error
        function, args, kwargs = via.function, [], {}
    if not callable(function):
        raise TaskUnavailable(f"the function {job.next_task!r} is not callable")

    def call(job: Job) -> Any:
        return _kept(job, run_to_its_end(function, *args, **kwargs), given.typed)

    async def call_async(job: Job) -> Any:
        return _kept(job, await function(*args, **kwargs), given.typed)

    asynchronous = inspect.iscoroutinefunction(function)
    return call_async if asynchronous else call, asynchronous, via


def _kept(job: Job, returned: Any, typed: bool) -> Any:
    """Pass directives on, and keep anything else as the result."""
    if isinstance(returned, Snooze) or (isinstance(returned, Finish) and not typed):
        return returned
    value = returned.result if isinstance(returned, Finish) else returned
    try:
        job.result = encode(value, "result") if typed else value
    except NotEncodable as error:
        raise WorkspaceError(str(error)) from error
    return Finish() if isinstance(returned, Finish) else None


def run_to_its_end(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function, plain or `async def`, and return what it returns in the end."""
    returned = function(*args, **kwargs)
    if returned is None:
        return None
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise DBQError(f"{function.__name__} is a generator: nothing of it has run. Let it return, not yield")
    return async_to_sync(_awaited)(returned) if inspect.iscoroutine(returned) else returned


async def _awaited(coroutine: Any) -> Any:
    return await coroutine
