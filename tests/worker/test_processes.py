"""The row of a worker process: while it lives it is renewed, when it ends well it goes, else it grows old."""

from __future__ import annotations

import datetime
import os
import signal
import socket

import pytest
from django.db.models import F

from django_dbq.models import Job, WorkerProcess
from django_dbq.store import get_store
from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP, children

BRIEF = {
    "POLL_INTERVAL_SECONDS": 600,
    "LEASE_SECONDS": 1,
}  # The shortest lease: seen every third of a second.


def rows(bench):
    return WorkerProcess.objects.using(bench.alias)


def seen(bench):
    return rows(bench).values_list("seen", flat=True).get()


def wait_for_row(bench, count=1):
    wait_until(lambda: rows(bench).count() == count, f"{count} rows")


def test_a_worker_shows_itself(bench):
    before = get_store(bench.alias).clock()
    job = bench.create("hold", queue_name="b")
    worker = bench.worker("a", "b", "--threads", "2", dbq=ASLEEP)
    bench.wait_until_begun(job)
    found = rows(bench).get()
    assert (found.host, found.pid) == (socket.gethostname(), worker.pid)
    assert (found.queue_names, found.threads) == (["a", "b"], 2)
    assert before <= found.started <= found.seen <= get_store(bench.alias).clock()
    assert found.name == bench.jobs(pk=job.pk).values_list("claimed_by", flat=True).get() == str(found)
    bench.go_on()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_goes_when_the_worker_is_stopped(bench, number):
    worker = bench.worker(dbq=ASLEEP)
    bench.wait_until_idle(worker)
    assert rows(bench).count() == 1
    os.kill(worker.pid, number)
    assert worker.wait() == 0
    assert not rows(bench).exists()


@pytest.mark.parametrize("args", [["--burst"], ["--max-jobs", "1"]])
def test_it_goes_when_the_worker_has_done_what_it_was_started_for(one_bench, args):
    one_bench.create("nothing")
    assert one_bench.worker(*args).wait() == 0
    assert not rows(one_bench).exists()


def test_every_worker_of_a_supervisor_has_its_own(one_bench):
    supervisor = one_bench.worker("--processes", "2", dbq=ASLEEP)
    wait_for_row(one_bench, 2)
    assert sorted(rows(one_bench).values_list("pid", flat=True)) == sorted(children(supervisor))
    os.kill(supervisor.pid, signal.SIGTERM)
    assert supervisor.wait() == 0
    assert not rows(one_bench).exists()


def test_an_idle_worker_is_seen_again_and_again_whatever_its_poll_interval(bench):
    bench.worker(dbq=BRIEF)
    wait_for_row(bench)
    first = seen(bench)
    wait_until(lambda: seen(bench) > first + datetime.timedelta(seconds=1), "it is seen a second later")
    begun = rows(bench).get()
    assert begun.started <= first


def test_it_is_renewed_every_third_of_a_lease_and_not_with_every_poll(one_bench):
    one_bench.worker(dbq={"POLL_INTERVAL_SECONDS": 0.01, "LEASE_SECONDS": 600})
    wait_for_row(one_bench)
    first = seen(one_bench)
    for _ in range(3):
        one_bench.wait_for(one_bench.create("nothing"))  # Found by polls, meanwhile.
    assert seen(one_bench) == first


def test_a_worker_that_runs_a_task_is_seen_too_and_while_it_stops(one_bench):
    job = one_bench.create("hold")
    worker = one_bench.worker(dbq=BRIEF)
    one_bench.wait_until_begun(job)
    first = seen(one_bench)
    wait_until(lambda: seen(one_bench) > first, "it is seen again")
    os.kill(worker.pid, signal.SIGTERM)
    wait_until(lambda: one_bench.state(job) == "STOPPING", "it stops")
    first = seen(one_bench)
    wait_until(lambda: seen(one_bench) > first, "it is seen again")
    one_bench.go_on()
    assert worker.wait() == 0
    assert not rows(one_bench).exists()


def test_a_row_that_somebody_deleted_comes_back(one_bench):
    one_bench.worker(dbq=BRIEF)
    wait_for_row(one_bench)
    rows(one_bench).delete()
    wait_for_row(one_bench)


def test_a_killed_worker_leaves_its_row_until_it_is_a_day_old(one_bench):
    killed = one_bench.worker(dbq=ASLEEP)
    one_bench.wait_until_idle(killed)
    wait_for_row(one_bench)
    [left] = rows(one_bench)
    killed.kill()
    assert one_bench.worker("--burst").wait() == 0
    assert rows(one_bench).get().seen == left.seen
    rows(one_bench).update(seen=F("seen") - datetime.timedelta(hours=24))
    assert one_bench.worker("--burst").wait() == 0
    assert not rows(one_bench).exists()


def test_a_worker_deletes_the_successes_that_nobody_wants_to_keep(one_bench):
    jobs = [one_bench.create("nothing") for _ in range(5)]
    one_bench.worker("--burst").wait()
    one_bench.worker("--burst", dbq={"SAVE_LIMIT": 2}).wait()
    assert set(Job.objects.values_list("pk", flat=True)) == {job.pk for job in jobs[-2:]}
