"""The tasks of dramatiq. Only what `payload` returns is kept."""

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import marks
from benchmarks.contenders import _redis

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS_URL"])))
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0)
def nothing():
    marks.ran()


@dramatiq.actor(max_retries=0)
def steps(place, value):
    value["step"] += 1
    if not _redis.last(place, value):
        steps.send(place + 1, value)
    marks.ran()


@dramatiq.actor(max_retries=0)
def stamp(index):
    marks.stamp(index)


@dramatiq.actor(max_retries=0)
def slow(index):
    time.sleep(1)
    marks.ran()


@dramatiq.actor(max_retries=0)
def write():
    _redis.write()
    marks.ran()


@dramatiq.actor(max_retries=0, store_results=True)
def payload(value):
    value["seen"] = True
    marks.ran()
    return value
