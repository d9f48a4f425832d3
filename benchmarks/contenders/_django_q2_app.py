"""What is measured, as functions for django-q2."""

import time

from django.db import connection
from django_q.tasks import async_task

from benchmarks import marks
from benchmarks.contender import STEPS_COUNT


def nothing():
    marks.ran()


def steps(place, value):
    """Hand a small object on; it has to have come from the step before."""
    value = {"step": value["step"] + 1}
    if value["step"] != place:
        raise ValueError(f"step {place} was given {value}")
    if place < STEPS_COUNT:
        async_task(steps, place + 1, value)
    marks.ran()


def stamp(index):
    marks.stamp(index)


def slow():
    time.sleep(1)
    marks.ran()


def write():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_written (text) VALUES ('written')")
    marks.ran()


def payload(value):
    marks.ran()
    return value
