"""The tasks of Celery. Only what `payload` returns is kept."""

import os
import time

from celery import Celery

from benchmarks import marks
from benchmarks.contenders import _redis

app = Celery(broker=os.environ["BENCH_REDIS_URL"], backend=os.environ["BENCH_REDIS_URL"])
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 128
app.conf.worker_disable_rate_limits = True


@app.task
def nothing():
    marks.ran()


@app.task
def steps(place, value):
    value["step"] += 1
    if not _redis.last(place, value):
        steps.delay(place + 1, value)
    marks.ran()


@app.task
def stamp(index):
    marks.stamp(index)


@app.task
def slow(index):
    time.sleep(1)
    marks.ran()


@app.task
def write():
    _redis.write()
    marks.ran()


@app.task(ignore_result=False)
def payload(value):
    value["seen"] = True
    marks.ran()
    return value
