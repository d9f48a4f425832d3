"""The tasks of huey. Nothing is kept of a task that returns None."""

import os
import time

from benchmarks import marks
from benchmarks.contenders import _redis
from huey import RedisHuey

huey = RedisHuey(url=os.environ["BENCH_REDIS_URL"])


@huey.task()
def nothing():
    marks.ran()


@huey.task()
def steps(value):
    value["step"] += 1
    if _redis.checked(value):
        steps(value)
    marks.ran()


@huey.task()
def stamp(index):
    marks.stamp(index)


@huey.task()
def slow():
    time.sleep(1)


@huey.task()
def write():
    _redis.write()
    marks.ran()


@huey.task()
def payload(value):
    value["seen"] = True
    marks.ran()
    return value
