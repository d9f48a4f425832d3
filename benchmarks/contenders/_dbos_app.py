"""The workflows of DBOS, and the process that runs them."""

import os
import signal
import sys
import threading
import time

from dbos import DBOS, SQLAlchemyDatasource
from sqlalchemy import text

from benchmarks import marks
from benchmarks.contender import STEPS_COUNT

QUEUE = "bench"
CLAIMED = 100  # At a time: a second process is to have its share.
THREADS = 16  # More are not faster; it has no bound of its own.


@DBOS.workflow(name="nothing")
def nothing():
    marks.ran()


@DBOS.step()
def step(value):
    value = {"step": value["step"] + 1}
    marks.ran()
    return value


@DBOS.workflow(name="steps")
def steps(value):
    for _ in range(STEPS_COUNT):
        value = step(value)
    if value["step"] != STEPS_COUNT:
        raise ValueError(f"step {value['step']} of {STEPS_COUNT}")


@DBOS.workflow(name="stamp")
def stamp(index):
    marks.stamp(index)


@DBOS.step()
def sleep():
    time.sleep(1)
    marks.ran()


@DBOS.workflow(name="slow")
def slow(index):
    sleep()


def insert():
    source.sql_session().execute(text("INSERT INTO bench_written (text) VALUES ('written')"))


@DBOS.workflow(name="write")
def write():
    source.run_tx_step({"name": "insert", "isolation_level": "READ COMMITTED"}, insert)
    marks.ran()


@DBOS.workflow(name="payload")
def payload(value):
    value["seen"] = True
    marks.ran()
    return value


def launch(executor: str) -> None:
    """Start to run what the queue holds."""
    global source
    url = os.environ["BENCH_DATABASE_URL"]
    source = SQLAlchemyDatasource.create(url, engine_kwargs={"pool_size": THREADS})
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "application_version": "1",
            "executor_id": executor,
            "max_executor_threads": THREADS,
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=CLAIMED, polling_interval_sec=0.01)


if __name__ == "__main__":
    launch(sys.argv[1])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    os._exit(0)  # What was claimed runs again elsewhere.
