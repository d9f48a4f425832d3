"""The JOBS of the chaos tests. Each task notes its beginning and its end, and waits where a test holds it.

A task of position N waits while the file `hold-N` stands in CHAOS_FOLDER, unless its own
process was let go with `go-PID`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

from django.db import connections

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
            "on": ["django.db.OperationalError", "django.db.InterfaceError"],
        },
    },
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
    "other_queue": (1, ()),
    "hooked": (1, ()),
}


def folder():
    return Path(os.environ["CHAOS_FOLDER"])


def wait_while_held(job):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while (folder() / f"hold-{job.position}").exists() and not (folder() / f"go-{os.getpid()}").exists():
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


def boom(job):
    note("begin", job)
    raise ValueError("uh oh")


def before(job):
    note("pre_task_hook", job)


def after(job):
    note("post_task_hook", job)


def failed(job, error):
    job.workspace["failed_with"] = type(error).__name__
    note("failure_hook", job)
