"""Tasks run by a worker of its own: waiting for them, and what is not to be saved."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
from django.db import connection

from django_dbq import Job
from django_dbq.compat.django_q import async_chain, async_iter, async_task, fetch, result, result_group
from tests.conftest import wait_until
from tests.django_q import functions
from tests.models import Row

CALLS = "tests.calls.functions"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(manage):
    process = manage("worker")
    first = async_task(functions.add, 1)
    assert result(first, wait=60_000) == 1
    return process


def test_a_wait_ends_with_the_task(worker):
    assert result(async_task(functions.add, 1, 2), wait=60_000) == 3
    job = Job.objects.get(pk=async_task(functions.write, "x"))
    assert job.wait(timeout=60) and (job.state, job.result) == ("COMPLETE", "x")


def test_a_wait_for_what_is_not_saved_ends_too(worker):
    task_id = async_task(functions.write, "x", save=False)
    began = time.monotonic()
    fetch(task_id, wait=30_000)
    wait_until(lambda: not Job.objects.filter(pk=task_id).exists(), "the row is deleted")
    assert Row.objects.count() == 1 and time.monotonic() - began < 20


def test_lists_and_chains_run_on_a_worker(worker):
    assert result(async_iter("math.floor", [1.5, 2.5]), wait=60_000) == [1, 2]
    links = [(functions.write, ("x",), {"save": False}), (functions.add, (1,)), (functions.add, (2,))]
    group = async_chain(links, pass_result=False)
    assert result_group(group, count=2) == [1, 2]


def test_a_worker_that_works_off_what_is_due_runs_a_chain_to_its_end(manage):
    async_chain([(functions.write, (text,)) for text in "abcde"])
    assert manage("worker", "--burst", TEST_DBQ='{"POLL_INTERVAL_SECONDS": 600}').wait() == 0
    assert Job.objects.filter(state="COMPLETE").count() == 5


def test_a_worker_that_wakes_after_its_lease_does_not_run_the_rest_of_a_chain_again(manage, tmp_path):
    first = (f"{CALLS}.write_when_told", (str(tmp_path),), {"save": False})
    async_chain([first, (functions.write, ("the end",), {"save": False})])
    quick = {"TEST_DBQ": json.dumps({"LEASE_SECONDS": 1, "POLL_INTERVAL_SECONDS": 0.1})}
    sleeper = manage("worker", **quick)
    wait_until(lambda: [*tmp_path.glob("began-*")], "the first link began")
    os.kill(sleeper.pid, signal.SIGSTOP)
    manage("worker", **quick)
    wait_until(lambda: len([*tmp_path.glob("began-*")]) == 2, "it began again")
    (tmp_path / "go-on").touch()
    wait_until(lambda: not Job.objects.exists(), "the chain is through")
    os.kill(sleeper.pid, signal.SIGCONT)
    wait_until(lambda: "Lease lost, outcome dropped" in sleeper.log(), "the sleeper found out")
    wait_until(lambda: not Job.objects.exists(), "nothing is left")
    assert Row.objects.filter(text="the end").count() == 1


@pytest.mark.postgresql
def test_a_long_wait_is_woken_by_the_worker_and_asks_seldom(worker, tmp_path):
    task_id = async_task(f"{CALLS}.write_when_told", str(tmp_path))
    looks, ended = [], []

    def wait():
        with connection.execute_wrapper(note):
            fetch(task_id, wait=60_000)
        ended.append(time.monotonic())
        connection.close()

    def note(execute, sql, params, many, context):
        if sql.startswith("SELECT"):
            looks.append(sql)
        return execute(sql, params, many, context)

    waiting = threading.Thread(target=wait)
    waiting.start()
    # The waiter's pauses have grown to a second by then.
    wait_until(lambda: len(looks) >= 14, "the waiter waits")
    before = len(looks)
    (tmp_path / "go-on").touch()
    waiting.join()
    finished = Job.objects.get(pk=task_id).finished
    from django.utils import timezone

    lateness = (timezone.now() - finished).total_seconds()
    assert lateness < 0.5 and len(looks) - before <= 4, (lateness, looks[before:])
