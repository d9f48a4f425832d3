"""The JOBS of the chaos tests. Each task notes its beginning and its end, and waits where a test holds it.

A task of position N waits while the file `hold-N` or `hold-ID` of its job stands in CHAOS_FOLDER,
unless its own process was let go with `go-PID`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from django.db import DatabaseError, connections, transaction

from tests.chaos.ledger import note

HERE = "tests.chaos.workflows"
WAIT_SECONDS_MAX = 120

JOBS = {
    "plain": [f"{HERE}.step"],
    "plain_three": [f"{HERE}.step"] * 3,
    "atomic": [{"task": f"{HERE}.effect", "atomic": True}],
    "three": [f"{HERE}.step", {"task": f"{HERE}.effect", "atomic": True}, f"{HERE}.step"],
    "other_queue": {"tasks": [f"{HERE}.step"], "queue_name": "other"},
    "letters": [f"{HERE}.alpha", f"{HERE}.beta", f"{HERE}.gamma"],
    "poison": {"tasks": [f"{HERE}.die"], "failure_hook": f"{HERE}.failed"},
    # As a project would that expects its database to be restarted.
    "patient": {
        "tasks": [f"{HERE}.step", {"task": f"{HERE}.effect", "atomic": True}, f"{HERE}.step"],
        "retry": {
            "max_attempts": 1_000,
            "delay_seconds": 0.05,
            "on": ["django.db.DatabaseError", "django.db.InterfaceError"],
        },
    },
    "enqueued": {"tasks": [f"{HERE}.step"], "creation_hook": f"{HERE}.created"},
    "hog": [f"{HERE}.hog"],
    "starve": {"tasks": [f"{HERE}.starve"], "post_task_hook": f"{HERE}.after"},
    "deaf": [{"task": f"{HERE}.deaf", "timeout_seconds": 0.5}],
    "spoil": [f"{HERE}.spoil"],
    "leave": [f"{HERE}.leave"],
    "breed": [f"{HERE}.breed"],
    "self_breeding": [f"{HERE}.again"],
    "hooked": {
        "tasks": [f"{HERE}.step"],
        "pre_task_hook": f"{HERE}.before",
        "post_task_hook": f"{HERE}.after",
        "failure_hook": f"{HERE}.failed",
    },
    "hooked_boom": {
        "tasks": [f"{HERE}.boom"],
        "post_task_hook": f"{HERE}.after",
        "failure_hook": f"{HERE}.failed",
    },
}
# Name -> how many tasks, and which of them are atomic.
PLANS = {
    "plain": (1, ()),
    "plain_three": (3, ()),
    "atomic": (1, (0,)),
    "three": (3, (1,)),
    "patient": (3, (1,)),
    "letters": (3, ()),
    "enqueued": (1, ()),
    "hog": (1, ()),
    "starve": (1, ()),
    "other_queue": (1, ()),
    "hooked": (1, ()),
}


def folder():
    return Path(os.environ["CHAOS_FOLDER"])


def wait_while_held(job):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    holds = [folder() / f"hold-{job.position}", folder() / f"hold-{job.id}"]
    while any(hold.exists() for hold in holds) and not (folder() / f"go-{os.getpid()}").exists():
        assert time.monotonic() < deadline, "held for too long"
        time.sleep(0.005)


def step(job):
    note("begin", job)
    job.workspace.setdefault("trail", []).append(job.position)
    wait_while_held(job)
    time.sleep(job.workspace.get("seconds", 0))
    note("end", job)


def effect(job):
    """Write a row with the task's own connection, before and after which the test may break in."""
    note("begin", job)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO chaos_effect (job_id, position, claim, session)"
            " VALUES (%s, %s, %s, current_setting('application_name'))",
            [job.id, job.position, job.claim],
        )
    job.workspace.setdefault("trail", []).append(job.position)
    note("written", job)
    wait_while_held(job)
    time.sleep(job.workspace.get("seconds", 0))
    note("end", job)


alpha = beta = gamma = delta = step


def die(job):
    """End the process in the way that the job asks for."""
    note("begin", job)
    match job.workspace["how"]:
        case "os._exit":
            os._exit(1)
        case "os.abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "sys.exit":
            sys.exit(1)
        case "BaseException":
            raise BaseException("not an Exception")


def hog(job):
    """Take memory that --max-rss does not allow, and keep it."""
    note("begin", job)
    job.workspace["trail"] = [job.position]
    memory.append(bytearray(os.urandom(1_000) * 300_000))
    note("end", job)


memory = []


def starve(job):
    """Hold the interpreter's lock as C code may: no other thread of the process runs."""
    note("begin", job)
    job.workspace["trail"] = [job.position]
    if job.attempt == 1:
        ctypes.PyDLL(None).usleep(ctypes.c_uint(job.workspace["microseconds"]))
        note("woken", job)
    if job.should_stop():
        note("told", job)
    note("end", job)


def deaf(job):
    """Ignore the time limit."""
    note("begin", job)
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass


def spoil(job):
    """Leave what `how` says behind, and say nothing."""
    note("begin", job)
    connection = connections["default"]
    cursor = connection.cursor()
    match job.workspace["how"]:
        case "broken transaction":
            connection.set_autocommit(False)
            with suppress(DatabaseError):
                cursor.execute("SELECT * FROM there_is_no_such_table")
        case "open transaction":
            transaction.atomic().__enter__()
            cursor.execute("SELECT 1")
        case "autocommit off":
            connection.set_autocommit(False)
        case "another connection":
            del connections["default"]
            connections["default"].set_autocommit(False)
            connections["default"].cursor().execute("SELECT 1")
        case "closed":
            connection.close()
        case "closed below Django":
            connection.connection.close()
        case "killed backend":
            with suppress(DatabaseError):
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        case "search path":
            cursor.execute("SET search_path TO nowhere; SET timezone TO 'Asia/Tokyo'")
        case "read only":
            cursor.execute("SET default_transaction_read_only = on")
        case "threads":
            for _ in range(20):
                threading.Thread(target=time.sleep, args=(WAIT_SECONDS_MAX,), daemon=True).start()


def leave(job):
    """Leave a workspace, a result or an error that nobody can keep."""
    note("begin", job)
    values = {
        "object": object(),
        "NUL": "a\0b",
        "NaN": float("nan"),
        "surrogate": "\ud800",
        "50 MB": "x" * 50_000_000,
        "bytes": b"raw",
        "set": {1},
    }
    how = job.workspace["how"]
    if how in values:
        job.workspace["here"] = values[how]
    elif how == "result":
        job.result = object()
    elif how == "10 MB of error":
        raise ValueError("x" * 10_000_000)
    elif how == "NUL in the error":
        raise ValueError("a\0b \ud800")
    elif how == "deep recursion":
        deepen()
    elif how == "unprintable error":
        raise Unprintable


def deepen():
    deepen()


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("cannot be said")


def breed(job):
    """Create many jobs in one transaction."""
    from django_dbq import Job

    note("begin", job)
    with transaction.atomic():
        Job.objects.bulk_create([Job(name="plain") for _ in range(job.workspace["children"])])
    note("end", job)


def again(job):
    """Enqueue itself."""
    from django_dbq import Job

    note("begin", job)
    Job.objects.create(name="self_breeding")


not_callable = "a string"


def boom(job):
    note("begin", job)
    raise ValueError("uh oh")


def created(job):
    job.workspace["made_by"] = os.getpid()
    note("creation_hook", job)


def before(job):
    note("pre_task_hook", job)
    while (folder() / "hold-hook").exists():
        time.sleep(0.005)


def after(job):
    note("post_task_hook", job)


def failed(job, error):
    job.workspace["failed_with"] = type(error).__name__
    note("failure_hook", job)
