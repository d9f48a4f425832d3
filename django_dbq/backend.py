"""The backend of django.tasks (Django 6.0), and of its backport, the django-tasks package.

A task is a signed function call (django_dbq.calls) whose path leads to a Task.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import UUID

import django
from django.core.checks import CheckMessage
from django.db import router
from django.utils import timezone

from django_dbq import calls
from django_dbq.checks import check_backend
from django_dbq.engine.directives import Finish, Snooze
from django_dbq.engine.lifecycle import HELD_STATES, UNSUCCESSFUL, CutOff, Lost, State
from django_dbq.engine.workflow import parse_backend
from django_dbq.engine.workspace import printable
from django_dbq.exceptions import BadSignature, WorkerLost
from django_dbq.models import Job, TaskRun, uuid7

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    try:
        from django_tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    except ModuleNotFoundError as error:
        raise ImportError(
            "django_dbq.backend needs django.tasks, which Django has from 6.0 on, or the package"
            " django-tasks: pip install django-tasks"
        ) from error
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskBackendError as InvalidTaskBackend
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json

P = ParamSpec("P")
R = TypeVar("R")

STATUS = {
    State.NEW: TaskResultStatus.READY,
    State.READY: TaskResultStatus.READY,
    State.WAITING: TaskResultStatus.READY,
    State.PROCESSING: TaskResultStatus.RUNNING,
    State.STOPPING: TaskResultStatus.RUNNING,
    State.COMPLETE: TaskResultStatus.SUCCESSFUL,
    State.FAILED: TaskResultStatus.FAILED,
    State.CANCELLED: TaskResultStatus.FAILED,
}
assert {*STATUS} == {*State}


class JobBackend(BaseTaskBackend):
    """Tasks of django.tasks as jobs: `manage.py worker` runs them beside the others."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Check OPTIONS."""
        return [*check_backend(self._where, self.options)]

    def enqueue(self, task: Task[P, R], args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult[P, R]:
        """Create the job of calling `task`, in the caller's transaction.

        Raises InvalidTask for what no worker could call, CallError for arguments that are
        too large, TypeError for those that are not JSON: all before anything is written.
        """
        self.validate_task(task)
        options = self._options()
        using = options.pop("database", None)
        pk = uuid7()
        result: TaskResult[P, R] = TaskResult(
            task=task,
            id=str(pk),
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        columns = calls.columns_of(
            _path_of(task),
            result.args,
            result.kwargs,
            {**options, "queue_name": task.queue_name},
            via=(f"{__name__}.{Attempt.__name__}", self.alias),
        )
        job = Job(id=pk, priority=int(task.priority), run_after=task.run_after, **columns)
        job.save(using=using)
        object.__setattr__(result, "enqueued_at", job.created)
        task_enqueued.send_robust(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return how a task does, by its id.

        Raises TaskResultDoesNotExist, and BadSignature for a row that was changed.
        """
        using = self._options().get("database") or router.db_for_write(Job)
        try:
            job = Job.objects.using(using).get(pk=UUID(str(result_id)), call__isnull=False)
        except (ValueError, Job.DoesNotExist):
            raise TaskResultDoesNotExist(result_id) from None
        if not calls.signature_holds(job):
            raise BadSignature(f"the signature of job {job.pk} does not hold: nothing of it was used")
        call = _read(job)
        if call.via is None or call.via[0] != f"{__name__}.{Attempt.__name__}":
            raise TaskResultDoesNotExist(f"{result_id} is the job {job.name}, and no task of django.tasks")
        try:
            task = _task_of(job, calls.resolve(job.name), call.via[1])
        except (Exception, SystemExit) as error:  # A module may even exit.
            what = f"{type(error).__name__}: {error}"
            raise TaskResultDoesNotExist(f"the task of {result_id} is gone: {what}") from error
        return _result(job, task, call)

    @property
    def _where(self) -> str:
        return f"TASKS[{self.alias!r}]['OPTIONS']"

    def _options(self) -> dict[str, Any]:
        _, problems = parse_backend(self._where, self.options)
        if problems:
            raise InvalidTaskBackend("; ".join(str(problem) for problem in problems))
        return dict(self.options)


def _path_of(task: Task[..., Any]) -> str:
    """Return the path by which a worker finds `task`. Raises InvalidTask when none leads to it."""
    path: str = task.module_path
    if path.partition(".")[0] == "__main__":
        raise InvalidTask(f"{path!r} is in __main__, which a worker does not import; move it to a module")
    try:
        found = calls.resolve(path)
    except (Exception, SystemExit) as error:
        raise InvalidTask(f"{path!r} does not import: {type(error).__name__}: {error}") from error
    if not isinstance(found, Task) or found.func != task.func:
        raise InvalidTask(
            f"{path!r} leads to {found!r} and not to this task, so no worker finds it:"
            " the task must have the name of its function, as @task leaves it"
        )
    return path


def _read(job: Job) -> calls.Call:
    assert job.call is not None
    return calls.read(job.call)


def _task_of(job: Job, found: Any, alias: str) -> Task[..., Any]:
    """Return the task that `job` stands for, as it was enqueued."""
    if not isinstance(found, Task):
        raise InvalidTask(f"{job.name!r} leads to {found!r}, which is not a task (any more)")
    # Not validated anew: the queue may have left QUEUES since, and the job another queue.
    task = object.__new__(type(found))
    kept = {field.name: getattr(found, field.name) for field in fields(found)}
    own = {"priority": job.priority, "queue_name": job.queue_name, "run_after": job.run_after}
    for name, value in {**kept, **own, "backend": alias}.items():
        object.__setattr__(task, name, value)
    return task


def _result(job: Job, task: Task[..., Any], call: calls.Call) -> TaskResult[..., Any]:
    held = job.state in HELD_STATES
    runs: list[TaskRun] = []
    if before := job.claim - held:
        # The row was read first: what is recorded since is not in it. A snooze is no attempt.
        past = TaskRun.objects.using(job._state.db).filter(job_id=job.pk, claim__lte=before)
        runs = [*past.exclude(outcome="snooze").order_by("claim")]
    status = STATUS[State(job.state)]
    last = job.modified if held else runs[-1].started if runs else None
    result: TaskResult[..., Any] = TaskResult(
        task=task,
        id=str(job.pk),
        status=status,
        enqueued_at=job.created,
        started_at=job.started,
        last_attempted_at=last,
        finished_at=job.finished,
        args=call.args,
        kwargs=call.kwargs,
        backend=task.backend,
        errors=[_error_of(run) for run in runs if run.outcome in UNSUCCESSFUL],
        worker_ids=[run.worker for run in runs] + ([str(job.claimed_by)] if held else []),
    )
    if status is TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", job.result)
    return result


_CHAIN = re.compile(
    r"\n\n(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n\n"
)
_LAST_LINE = re.compile(r"^(?:  \| )?([A-Za-z_][\w.<>]*)(?::|$)", re.MULTILINE)


def _error_of(run: TaskRun) -> TaskError:
    text = run.error or ""
    if run.outcome in (Lost.kind, CutOff.kind):
        return TaskError(exception_class_path=_path_of_class(WorkerLost), traceback=text)
    # After the frames, which are indented, the class stands at the beginning of its line.
    last = _CHAIN.split(text)[-1]
    found = _LAST_LINE.search(last.partition("Traceback (most recent call last):\n")[2] or last)
    name = found[1] if found else "Exception"
    return TaskError(exception_class_path=name if "." in name else f"builtins.{name}", traceback=text)


def _path_of_class(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class Attempt:
    """One attempt at a task by a worker: its context, and the signals around it."""

    function: Callable[[], Any]

    def __init__(self, job: Job, found: Any, call: calls.Call) -> None:
        assert call.via is not None
        task = _task_of(job, found, call.via[1])
        self.job = job
        self.sender = type(task_backends[task.backend])
        self.result = _result(job, task, call)
        args = [TaskContext(task_result=self.result), *call.args] if task.takes_context else call.args

        def function() -> Any:
            return _as_json(task.func(*args, **call.kwargs))

        async def function_async() -> Any:
            return _as_json(await task.func(*args, **call.kwargs))

        self.function = function_async if inspect.iscoroutinefunction(task.func) else function

    def begin(self) -> None:
        """Send task_started."""
        task_started.send_robust(self.sender, task_result=self.result)

    def end(self, state: State, error: BaseException | None) -> None:
        """Send task_finished, and an error as the one that is being handled: loggers ask for it."""
        self._set("status", STATUS[state])
        self._set("finished_at", timezone.now())
        if error is None:
            self._set("_return_value", self.job.result)
            task_finished.send_robust(self.sender, task_result=self.result)
            return
        self.result.errors.append(
            TaskError(exception_class_path=_path_of_class(type(error)), traceback=_traceback(error))
        )
        frames = error.__traceback__
        try:
            raise error
        except BaseException:
            error.__traceback__ = frames
            task_finished.send_robust(self.sender, task_result=self.result)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self.result, name, value)


def _as_json(returned: Any) -> Any:
    """Return what a task returned as Django keeps it. Raises TypeError for what is not JSON."""
    return returned if isinstance(returned, (Snooze, Finish)) else normalize_json(returned)


def _traceback(error: BaseException) -> str:
    return printable("".join(traceback.format_exception(error)))
