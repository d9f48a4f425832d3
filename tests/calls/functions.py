"""Functions that the tests call through jobs."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from django.db import transaction

from django_dbq import Abort, Finish, GoTo, Retry, Snooze, deschedule, schedule
from tests.models import Row

HERE = "tests.calls.functions"


def nothing(*args, **kwargs):
    pass


def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


async def echo_async(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


def depth(value):
    """Return in how many lists the innermost value stands."""
    return 1 + depth(value[0]) if isinstance(value, list) else 0


class Things:
    @staticmethod
    def static(*args):
        return ["static", *args]

    @classmethod
    def of_class(cls, *args):
        return [cls.__name__, *args]

    def of_instance(self):
        """Only to be refused."""

    def __call__(self):
        """Only to be refused."""

    class Inner:
        @staticmethod
        def static(*args):
            return ["inner", *args]


class MoreThings(Things):
    """Inherits what is called."""


def passed_on(function):
    @functools.wraps(function)
    def call(*args):
        return ["decorated", *function(*args)]

    return call


@passed_on
def decorated(*args):
    return args


@functools.cache
def cached(*args):
    return ["cached", *args]


def another():
    """Only to be replaced."""


replaced = another


def another():
    """What the name of `replaced` leads to."""


number = 7
a_lambda = lambda: None  # noqa: E731
globals()["long_" + "g" * 300] = nothing


# Writing.


def write(text="written"):
    Row.objects.create(text=text)
    return text


def write_and_fail(text="written"):
    write(text)
    raise ValueError("uh oh")


async def write_async(text="written"):
    await Row.objects.acreate(text=text)
    return text


async def write_and_fail_async(text="written"):
    await Row.objects.acreate(text=text)
    raise ValueError("uh oh")


def write_and_schedule():
    write()
    schedule(write, ["by the scheduled"])


def write_schedule_and_fail():
    write_and_schedule()
    raise ValueError("uh oh")


def write_and_snooze():
    if not Row.objects.exists():
        write()
        return Snooze(60)
    return "awake"


def write_and_finish():
    write()
    return Finish({"finished": True})


def write_and_retry():
    write()
    raise Retry(300)


def write_and_abort():
    write()
    raise Abort("no use")


def write_and_go_to():
    write()
    return GoTo(f"{HERE}.write")


def write_and_return_an_object():
    write()
    return object()


def write_in_blocks():
    """Keep what the inner blocks commit, and nothing of the one that fails."""
    with transaction.atomic():
        write("kept")
        try:
            with transaction.atomic():
                write("undone")
                raise ValueError
        except ValueError:
            pass


def fail_until(count):
    """Fail until this has been tried so often; a row of the failed attempts' is rolled back."""
    from django_dbq import TaskRun

    write()
    if TaskRun.objects.count() < count:
        raise ValueError("not yet")
    return "at last"


# Transactions.

LATER = []  # What was called on commit.


def write_and_later(text="later"):
    write()
    transaction.on_commit(lambda: LATER.append(text))


def write_later_and_fail():
    write_and_later()
    raise ValueError("uh oh")


def write_and_fail_later():
    write()
    transaction.on_commit(fail)


def fail():
    raise ValueError("too late")


# Waiting.


def wait(seconds):
    time.sleep(seconds)


async def wait_async(seconds):
    import asyncio

    await asyncio.sleep(seconds)


def write_when_told(folder):
    """Say that the call began, write once the test says go on (or 30 seconds have passed)."""
    folder = Path(folder)
    (folder / f"began-{os.getpid()}").touch()
    deadline = time.monotonic() + 30
    while not (folder / "go-on").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    write()


# Descheduling.


def deschedule_writes():
    return deschedule(write, ["x"])


def deschedule_myself():
    return deschedule(deschedule_myself)


def deschedule_writes_and_fail():
    deschedule_writes()
    raise ValueError("uh oh")


# For execute().


def execute_another():
    from django_dbq import Job

    Job.objects.get(name=f"{HERE}.write").execute()


def fail_in_the_database():
    row = Row.objects.create(text="before")
    Row.objects.create(pk=row.pk, text="again")


def exit():
    write()
    raise SystemExit(3)


def write_and_cut_the_connection():
    """As when the process dies, or the server goes away."""
    from django.db import connection

    write()
    connection.connection.close()
    Row.objects.count()


def refer_to_nobody():
    """As PostgreSQL sees it: an error of the commit."""
    from django.contrib.admin.models import LogEntry

    LogEntry.objects.create(user_id=-1, action_flag=1, object_repr="")
