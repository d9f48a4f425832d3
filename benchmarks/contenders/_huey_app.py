"""The tasks of huey. Nothing is kept of a task that returns None."""

import os
import time

from huey import RedisHuey

from benchmarks import marks
from benchmarks.contenders import _redis

huey = RedisHuey(url=os.environ["BENCH_REDIS_URL"])


@huey.task()
def nothing():
    marks.ran()


@huey.task()
def steps(place, value):
    value["step"] += 1
    if not _redis.last(place, value):
        steps(place + 1, value)
    marks.ran()


@huey.task()
def stamp(index):
    marks.stamp(index)


@huey.task()
def slow(index):
    time.sleep(1)
    marks.ran()


@huey.task()
def write():
    _redis.write()
    marks.ran()


@huey.task()
def payload(value):
    value["seen"] = True
    marks.ran()
    return value
