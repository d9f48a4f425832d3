"""What is measured, as tasks of django.tasks."""

import time

from django.db import connection
from django.tasks import task

from benchmarks import marks
from benchmarks.contender import STEPS_COUNT


@task
def nothing():
    marks.ran()


@task
def steps(place, value):
    """Hand a small object on; it has to have come from the step before."""
    value = {"step": value["step"] + 1}
    if value["step"] != place:
        raise ValueError(f"step {place} was given {value}")
    if place < STEPS_COUNT:
        steps.enqueue(place + 1, value)
    marks.ran()


@task
def stamp(index):
    marks.stamp(index)


@task
def slow():
    time.sleep(1)
    marks.ran()


@task
def write():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_written (text) VALUES ('written')")
    marks.ran()


@task
def payload(value):
    marks.ran()
    return value
