"""The tasks that are measured: as little as a task can do."""

import time

from django.db import connection

from benchmarks import marks


def nothing(job):
    marks.ran()


def step(job):
    """Hand a small object on; it has to have come from the step before."""
    if job.workspace["step"] != getattr(job, "position", job.workspace["step"]):  # Version 3 has no position.
        raise ValueError(job.workspace)
    job.workspace["step"] += 1
    marks.ran()


def stamp(job):
    marks.stamp(job.workspace["index"])


def slow(job):
    time.sleep(1)
    marks.ran()


def write(job):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_written (text) VALUES ('written')")
    marks.ran()


def payload(job):
    job.workspace["seen"] = True
    marks.ran()
