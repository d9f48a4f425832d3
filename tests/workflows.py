"""The JOBS of the tests, and their tasks. Workers that tests start know these alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

from django_dbq import Abort, Finish, GoTo, Retry, Snooze

JOBS = {
    "nothing": ["tests.workflows.nothing"],
    "five": ["tests.workflows.count"] * 5,
    "nothing_then_count": ["tests.workflows.nothing", "tests.workflows.count"],
    "stop_half_way": ["tests.workflows.stop_half_way"],
    "stop_half_way_twice": {
        "tasks": ["tests.workflows.stop_half_way"],
        "retry": {"max_attempts": 2, "delay_seconds": 0},
    },
    "stop_half_way_atomic": {"tasks": ["tests.workflows.stop_half_way"], "atomic": True},
    "boom": ["tests.workflows.boom"],
    "slow": {"tasks": ["tests.workflows.slow", "tests.workflows.count"]},
    "slow_to_create": {"tasks": ["tests.workflows.nothing"], "creation_hook": "tests.workflows.take_time"},
    "other_queue": {"tasks": ["tests.workflows.nothing"], "queue_name": "other", "priority": 3},
    "writes": {"tasks": ["tests.workflows.write_row"]},
    "atomic_writes": {"tasks": ["tests.workflows.write_row"], "atomic": True},
    "atomic_boom": {"tasks": [{"task": "tests.workflows.write_row_and_boom", "atomic": True}]},
    "async": ["tests.workflows.asynchronous"],
    "hold": ["tests.workflows.hold", "tests.workflows.count"],
    "count_then_hold": ["tests.workflows.count", "tests.workflows.hold"],
    "hold_atomic": {"tasks": ["tests.workflows.hold", "tests.workflows.count"], "atomic": True},
    "witness": ["tests.workflows.witness"],
    "create_witnesses": ["tests.workflows.create_witnesses"],
    "kill_worker": ["tests.workflows.kill_worker"],
    "fork": ["tests.workflows.fork"],
    "pool": ["tests.workflows.pool"],
    "hold_in_c": ["tests.workflows.hold_in_c"],
    "hold_each": ["tests.workflows.hold_each"],
    "until_told": ["tests.workflows.until_told", "tests.workflows.count"],
    "until_told_atomic": {"tasks": ["tests.workflows.until_told", "tests.workflows.count"], "atomic": True},
    "until_told_then_witness": ["tests.workflows.until_told", "tests.workflows.witness"],
    "until_told_then_witness_atomic": {
        "tasks": ["tests.workflows.until_told", "tests.workflows.witness"],
        "atomic": True,
    },
    "until_told_last": ["tests.workflows.until_told"],
    "too_slow": {
        "tasks": [{"task": "tests.workflows.hold", "timeout_seconds": 0.3}, "tests.workflows.count"],
        "retry": {"max_attempts": 2, "delay_seconds": 0},
    },
    "too_slow_async": [{"task": "tests.workflows.hold_async", "timeout_seconds": 0.3}],
    "too_slow_and_deaf": [{"task": "tests.workflows.hold_in_spite_of_all", "timeout_seconds": 0.3}],
    "too_slow_and_deaf_in_its_row": [
        {"task": "tests.workflows.save_and_hold_in_spite_of_all", "timeout_seconds": 0.3, "atomic": True}
    ],
    "result": ["tests.workflows.result"],
    "leak": ["tests.workflows.leak"],
    "mendable": ["tests.workflows.count", "tests.workflows.unless_mended", "tests.workflows.count"],
}


def nothing(job):
    pass


def count(job):
    job.workspace["count"] = job.workspace.get("count", 0) + 1


def boom(job):
    raise ValueError("uh oh")


def slow(job):
    """Say that the task began, then wait until the test says go on (or 30 seconds have passed)."""
    folder = Path(job.workspace["folder"])
    (folder / f"began-{os.getpid()}").touch()
    deadline = time.monotonic() + 30
    while not (folder / "go-on").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def stop_half_way(job):
    """Fail while the answer to a query has been read in part."""
    from tests.models import Row

    Row.objects.using(job._state.db).bulk_create(Row(text="row") for _ in range(1_000))
    rows = Row.objects.using(job._state.db).iterator(chunk_size=10)
    next(rows)
    raise ValueError("half way")


def write_row(job):
    from tests.models import Row

    Row.objects.using(job._state.db).create(text=str(job.id))


def write_row_of_failure(job, error):
    write_row(job)


def write_row_and_boom(job):
    write_row(job)
    raise ValueError("uh oh")


async def asynchronous(job):
    job.workspace["asynchronous"] = True


def finish(job):
    return Finish({"answer": 42})


def snooze(job):
    job.workspace["naps"] = job.workspace.get("naps", 0) + 1
    return Snooze(60) if job.workspace["naps"] < 3 else None


def go_to_last(job):
    return GoTo("tests.workflows.nothing")


def retry(job):
    raise Retry(30)


def abort(job):
    raise Abort("no use")


def hold(job):
    """Say that the task began, then wait for the test's word (or 30 seconds)."""
    folder = Path(job.workspace["folder"])
    (folder / f"began-{job.pk}-{os.getpid()}").touch()
    deadline = time.monotonic() + 30
    while not (folder / "go-on").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def take_time(job):
    """A creation hook that asks somebody far away, say."""
    time.sleep(0.1)


def witness(job):
    """Leave a row that tells which process of which host ran which job."""
    from tests.models import Row

    Row.objects.create(text=f"{socket.gethostname()} {os.getpid()} {job.workspace.get('n')}")


def create_witnesses(job):
    from django_dbq import Job

    Job.objects.bulk_create([Job(name="witness", workspace={"n": n}) for n in range(3)])


def fork(job):
    """End processes by a signal just after they were forked; tell how they ended."""
    context = multiprocessing.get_context("fork")
    number = job.workspace["signal"]
    ends = set()
    for _ in range(20):
        began = context.Event()
        process = context.Process(target=live_on, args=(began,))
        process.start()
        if number == signal.SIGINT:  # Which raises: not before there is who takes it.
            began.wait()
        os.kill(process.pid, number)
        process.join()
        ends.add(process.exitcode)
    job.result = sorted(ends)


def live_on(began):
    began.set()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.01)  # A signal that comes just before a sleep is looked at after it.


def pool(job):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        job.result = pool.map(abs, [1, -2, 3])


def hold_in_c(job):
    """Hold in the database's driver, where Python runs no signal handler."""
    from django.db import connections

    (Path(job.workspace["folder"]) / f"began-{job.pk}-{os.getpid()}").touch()
    with connections[job._state.db].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")


def kill_worker(job):
    os.kill(os.getpid(), signal.SIGKILL)


def hold_each(job):
    """As `hold`, with a word for each claim."""
    folder = Path(job.workspace["folder"])
    (folder / f"began-{job.pk}-{job.claim}").touch()
    deadline = time.monotonic() + 30
    while not (folder / f"go-on-{job.claim}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def until_told(job):
    """Say that the task began, go on until the job should stop (or 30 seconds have passed), and say so."""
    folder = Path(job.workspace["folder"])
    (folder / f"began-{job.pk}-{os.getpid()}").touch()
    deadline = time.monotonic() + 30
    while not job.should_stop() and time.monotonic() < deadline:
        time.sleep(0.01)
    job.workspace["told"] = job.should_stop()
    (folder / f"told-{job.pk}").touch()


async def hold_async(job):
    """As `hold`; leave a word when cancelled."""
    import asyncio

    folder = Path(job.workspace["folder"])
    (folder / f"began-{job.pk}-{os.getpid()}").touch()
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        (folder / f"cancelled-{job.pk}").touch()
        raise


def hold_in_spite_of_all(job):
    try:
        hold(job)
    except Exception:
        hold(job)


def save_and_hold_in_spite_of_all(job):
    job.save()
    hold_in_spite_of_all(job)


def result(job):
    job.result = job.workspace["n"]


def leak(job):
    raise ValueError("cannot log in with password=hunter2")


def unless_mended(job):
    """Fail, until there is the row that says that what was wrong is mended."""
    from tests.models import Row

    if not Row.objects.filter(text="mended").exists():
        raise ConnectionError("the printer does not answer")
    job.workspace["printed"] = True
