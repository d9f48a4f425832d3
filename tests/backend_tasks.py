"""Tasks of django.tasks that the tests enqueue."""

from __future__ import annotations

import time

from django_dbq import Finish, Snooze
from tests.models import Row

try:
    from django.tasks import task
except ModuleNotFoundError:
    from django_tasks import task


class Refused(Exception):
    """An exception of a project's own."""


@task
def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


@task
async def echo_async(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


@task(priority=7, queue_name="reports")
def report():
    return "reported"


@task
def write(text):
    Row.objects.create(text=text)


@task
def write_and_fail(text):
    Row.objects.create(text=text)
    raise Refused("not\ntoday: never")


@task
async def fail_async():
    raise Refused("not today")


def _raise(error, cause=None):
    raise error from cause


def _handled():
    try:
        _raise(Refused("first"))
    except Refused:
        _raise(LookupError("second"))


class Outer:
    class Inner(Exception):
        """An exception of a class."""


FAULTS = {
    "builtin": lambda: _raise(KeyError("key")),
    "project": lambda: _raise(Refused()),
    "in a class": lambda: _raise(Outer.Inner("Traceback (most recent call last):\nOSError: in its text")),
    "caused": lambda: _raise(ValueError("second"), Refused("first")),
    "handled": _handled,
    "group": lambda: _raise(ExceptionGroup("several", [ValueError("one"), Refused("two")])),
    "syntax": lambda: compile("1 +", "<text>", "exec"),
    "exit": lambda: _raise(SystemExit(3)),
}


@task
def fail_with(fault):
    FAULTS[fault]()


@task
def return_an_object():
    return object()


@task(takes_context=True)
def look(context, *args):
    """Return what the context tells; fail on the attempts before the third where asked to."""
    result = context.task_result
    if args == ("fail twice",) and context.attempt < 3:
        raise Refused(f"attempt {context.attempt}")
    return {
        "attempt": context.attempt,
        "id": result.id,
        "status": result.status,
        "args": result.args,
        "errors": [error.exception_class_path for error in result.errors],
        "began": result.last_attempted_at is not None and result.started_at is not None,
        "backend": result.backend,
        "queue": result.task.queue_name,
        "workers": len(set(result.worker_ids)),
    }


@task(takes_context=True)
async def look_async(context):
    return context.attempt


@task
def snooze_once():
    if not Row.objects.exists():
        Row.objects.create(text="asleep")
        return Snooze(0)
    return Finish("awake")


@task
def sleep(seconds):
    time.sleep(seconds)


def hidden():
    """Is not what the name of the task leads to."""


under_another_name = task(hidden)


@task
def defined_twice():
    """Is not what its name leads to."""


the_first = defined_twice


@task
def defined_twice():
    """Takes the name."""
