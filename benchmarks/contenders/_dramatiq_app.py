"""The tasks of dramatiq. Only what `payload` returns is kept."""

import os
import time

import dramatiq
from benchmarks import marks
from benchmarks.contenders import _redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS_URL"])))
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0)
def nothing():
    marks.ran()


@dramatiq.actor(max_retries=0)
def steps(value):
    value["step"] += 1
    if _redis.checked(value):
        steps.send(value)
    marks.ran()


@dramatiq.actor(max_retries=0)
def stamp(index):
    marks.stamp(index)


@dramatiq.actor(max_retries=0)
def slow():
    time.sleep(1)


@dramatiq.actor(max_retries=0)
def write():
    _redis.write()
    marks.ran()


@dramatiq.actor(max_retries=0, store_results=True)
def payload(value):
    value["seen"] = True
    marks.ran()
    return value
