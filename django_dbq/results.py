"""What became of a job, as its caller sees it: the ended job as a value, and waiting for one."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import Error, connections, router
from django.utils import timezone

from django_dbq import calls
from django_dbq.engine.lifecycle import FINISHED_STATES, State
from django_dbq.exceptions import DBQError
from django_dbq.models import Job, TaskRun

OUTCOME_STATES = (State.COMPLETE, State.FAILED)  # A cancelled job has no outcome.
FIRST_PAUSE_SECONDS = 0.005
LAST_PAUSE_SECONDS = 0.1
LISTEN_AFTER_SECONDS = 0.02
LISTENING_PAUSE_SECONDS = 1.0

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Task:
    """A job that has ended, as hooks receive it and `fetch()` returns it."""

    id: str  # 32 hexadecimal digits.
    name: str  # Its title, or its id where it has none.
    func: str  # The function's path; of a workflow, its name in JOBS.
    hook: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any  # Of a failure: the error, with its traceback.
    group: str | None
    cluster: str  # Its queue.
    started: datetime.datetime
    stopped: datetime.datetime
    success: bool
    attempt_count: int
    _using: str | None = field(default=None, repr=False, compare=False)  # Where it was read.
    _written: str | None = field(default=None, repr=False, compare=False)  # Where its job is written.

    def __str__(self) -> str:
        return self.name

    def time_taken(self) -> float:
        """Return the seconds from its first start to its end."""
        return (self.stopped - self.started).total_seconds()

    # In a hook this task's own end is about to be recorded: it counts already.

    def group_result(self, failures: bool = False) -> list[Any]:
        """Return the results of its group, this one's among them."""
        return [task.result for task in self._of_group() if task.success or failures]

    def group_count(self, failures: bool = False) -> int:
        """Return how many tasks of its group have ended, this one among them; or only how many failed."""
        return sum(1 for task in self._of_group() if not (failures and task.success))

    def group_delete(self, tasks: bool = False) -> int:
        """Take the label off its group's ended jobs, or delete these too; return how many."""
        return 0 if self.group is None else delete_group(self.group, tasks=tasks, using=self._written)

    # As the model of django-q has them.

    @staticmethod
    def get_task(task_id: str | uuid.UUID) -> Task | None:
        """Return the task with this id or name if it has ended, else None."""
        job = find(task_id)
        return None if job is None else outcome(job)

    @staticmethod
    def get_result(task_id: str | uuid.UUID) -> Any:
        """Return the result of the task with this id or name if it has ended, else None."""
        task = Task.get_task(task_id)
        return None if task is None else task.result

    @staticmethod
    def get_task_group(group_id: str, failures: bool = True) -> list[Task]:
        """Return the ended tasks of a group, in the order of their creation."""
        return [task for task in of_group(group_id) if task.success or failures]

    @staticmethod
    def get_result_group(group_id: str, failures: bool = False) -> list[Any]:
        """Return the results of the ended tasks of a group."""
        return [task.result for task in Task.get_task_group(group_id, failures)]

    @staticmethod
    def get_group_count(group_id: str, failures: bool = False) -> int:
        """Return how many tasks of a group have ended; with `failures`, how many failed."""
        return count_group(group_id, failures=failures)

    @staticmethod
    def delete_group(group_id: str, objects: bool = False) -> int:
        """Take a group's label off its ended tasks, or delete these; return how many."""
        return delete_group(group_id, tasks=objects)

    def _of_group(self) -> list[Task]:
        if self.group is None:
            return []
        others = [task for task in of_group(self.group, using=self._using) if task.id != self.id]
        return sorted([*others, self], key=lambda task: task.id)


def of(job: Job) -> Task:
    """Return a job that has ended as a Task. A failure's text is read from its last attempt."""
    failed = job.state != State.COMPLETE
    return _task(job, _error_of(job) if failed else None)


def at_its_end(job: Job, error: str | None) -> Task:
    """Return a job whose end is not recorded yet as a Task; `error` is None for a success."""
    return _task(job, error)


def _task(job: Job, error: str | None) -> Task:
    call = calls.read(job.call) if job.call is not None else None
    now = timezone.now()
    return Task(
        id=job.pk.hex,
        name=job.title or job.pk.hex,
        func=call.of or job.name if call else job.name,
        hook=call.options.get("hook") if call else None,
        args=_args(call),
        kwargs=dict(call.kwargs) if call else {},
        result=calls.value_of(job) if error is None else error,
        group=job.label,
        cluster=job.queue_name,
        started=job.started or job.created or now,
        stopped=job.finished or now,
        success=error is None,
        attempt_count=job.attempt,
        _using=job._state.db,
        _written=router.db_for_write(Job, instance=job),
    )


def described(job: Job, **more: Any) -> dict[str, Any]:
    """Return a job as the dictionary that signals carry."""
    call = calls.read(job.call) if job.call is not None else None
    return {
        "id": job.pk.hex,
        "name": job.title or job.pk.hex,
        "func": call.of or job.name if call else job.next_task,
        "args": _args(call),
        "kwargs": call.kwargs if call else {},
        "hook": call.options.get("hook") if call else None,
        "group": job.label,
        "cluster": job.queue_name,
        "started": job.started or timezone.now(),
        **more,
    }


def _args(call: calls.Call | None) -> tuple[Any, ...]:
    # A list is known by its function; what it is gathered from is nobody's business.
    return tuple(call.args) if call and call.of is None else ()


def _error_of(job: Job) -> str:
    runs = TaskRun.objects.using(job._state.db).filter(job=job.pk, error__isnull=False)
    return runs.order_by("-claim").values_list("error", flat=True).first() or job.error or ""


# Finding.


def find(task_id: str | uuid.UUID, using: str | None = None) -> Job | None:
    """Return the job with this id, or the newest with this title; None where there is none."""
    jobs = Job.objects.using(using)
    try:
        return jobs.filter(pk=task_id if isinstance(task_id, uuid.UUID) else uuid.UUID(task_id)).first()  # type: ignore[no-any-return]
    except ValueError:
        return jobs.filter(title=task_id).order_by("-pk").first()  # type: ignore[no-any-return]


def ids(task_id: str | uuid.UUID) -> tuple[uuid.UUID, ...]:
    """Return the id that this is; nothing where it is a title."""
    try:
        return (task_id if isinstance(task_id, uuid.UUID) else uuid.UUID(task_id),)
    except ValueError:
        return ()


def outcome(job: Job) -> Task | None:
    """Return a job as a Task once it has ended.

    A final job that waits for its group has failed where a job of the group has: it
    never becomes due so.
    """
    if job.state in OUTCOME_STATES:
        return of(job)
    if job.state == State.WAITING and job.group is not None and job.group.final_id == job.pk:
        failed = Job.objects.using(job._state.db).filter(group=job.group_id, state=State.FAILED)
        for part in failed.order_by("pk")[:1]:
            return _task(job, f"job {part.pk} of the group failed: {_error_of(part)}")
    return None


def of_group(label: str, using: str | None = None) -> list[Task]:
    """Return the ended jobs with this label, in the order of their creation."""
    jobs = Job.objects.using(using).filter(label=label, state__in=OUTCOME_STATES)
    found = list(jobs.order_by("pk"))
    errors: dict[Any, str | None] = {}
    if any(job.state == State.FAILED for job in found):
        runs = TaskRun.objects.using(using).filter(job__label=label, job__state=State.FAILED)
        told = runs.filter(error__isnull=False).order_by("claim").values_list("job_id", "error")
        errors = dict(told)  # Of each job the last.
    return [
        _task(job, None if job.state == State.COMPLETE else errors.get(job.pk) or job.error or "")
        for job in found
    ]


def goes_on(label: str, using: str | None = None) -> bool:
    """Tell whether a job with this label has still to end."""
    jobs = Job.objects.using(using).filter(label=label)
    return bool(jobs.exclude(state__in=FINISHED_STATES).exists())


def count_group(label: str, *, failures: bool = False) -> int:
    """Return how many jobs with this label have ended; with `failures`, how many failed."""
    states = [State.FAILED] if failures else OUTCOME_STATES
    return Job.objects.filter(label=label, state__in=states).count()  # type: ignore[no-any-return]


def delete_group(label: str, *, tasks: bool = False, using: str | None = None) -> int:
    """Take this label off the ended jobs that have it, or delete them; return how many."""
    from django_dbq.store import get_store

    return get_store(using or router.db_for_write(Job)).forget_label(label, delete=tasks)


def gather(group_id: int, using: str) -> list[Any]:
    """Return the results of a group's jobs in the order of their creation. Runs as the final job."""
    jobs = Job.objects.using(using).filter(group=group_id, state=State.COMPLETE)
    return [calls.value_of(job) for job in jobs.order_by("pk")]


# Waiting.


def wait_for(
    look: Callable[[], Found | None], seconds: float | None, using: str, job_ids: Collection[uuid.UUID] = ()
) -> Found | None:
    """Return the first answer of `look` that is not None, or None after so many seconds.

    None waits without end. Raises DBQError where it would wait within an atomic block.
    """
    from django_dbq.store import get_store

    found = look()
    if found is not None or seconds == 0:
        return found

    connection = connections[using]
    if connection.in_atomic_block or not connection.get_autocommit():
        raise DBQError(
            "waiting for a job within an atomic block: a job created in it begins once it is committed,"
            " and others may be seen to end only then. Wait outside of it; in a test, call"
            " django_dbq.testing.run_jobs() first."
        )
    until = float("inf") if seconds is None else time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    sleep: Callable[[float], None] = time.sleep
    with ExitStack() as stack:
        while found is None and (left := until - time.monotonic()) > 0:
            if job_ids and pause > LISTEN_AFTER_SECONDS:
                # It takes longer than a connection takes to make.
                sleep = stack.enter_context(get_store(using).listening(job_ids))
                job_ids = ()
            try:
                sleep(min(pause, left))
            except Error:
                sleep = time.sleep  # What listened has lost its connection: asking goes on.
            most = LAST_PAUSE_SECONDS if sleep is time.sleep else LISTENING_PAUSE_SECONDS
            pause = min(most, pause * 1.5)
            found = look()
    return found
