"""How a worker stops."""

from __future__ import annotations

import signal

import pytest
from django.db import connection

from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP, children

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
WAYS = [[], ["--threads", "2"], ["--processes", "2"]]


def facts(job):
    job.refresh_from_db()
    return job.state, job.next_task.rpartition(".")[2], job.attempt, job.claimed_by, job.lease_until


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("way", WAYS)
def test_an_idle_worker_exits_at_once(one_bench, number, way):
    worker = one_bench.worker(*way, dbq=ASLEEP)
    one_bench.wait_until_idle(worker)
    worker.popen.send_signal(number)
    assert worker.wait() == 0, worker.log()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_the_running_task_finish_and_gives_back_the_rest(bench, number):
    job, waiting = bench.create("hold"), bench.create("nothing")
    worker = bench.worker(dbq=ASLEEP)
    bench.wait_until_begun(job)
    worker.popen.send_signal(number)
    bench.wait_for(job, "STOPPING")
    job.refresh_from_db()
    assert job.claimed_by and job.lease_until
    bench.go_on()
    assert worker.wait() == 0, worker.log()
    assert facts(job) == ("READY", "count", 0, None, None) and bench.runs(job, "outcome") == ["done"]
    assert facts(waiting) == ("NEW", "nothing", 0, None, None)
    assert bench.worker("--burst").wait() == 0
    assert (bench.state(job), bench.state(waiting)) == ("COMPLETE", "COMPLETE")


@pytest.mark.parametrize("way", WAYS)
def test_every_running_task_is_waited_for(one_bench, way):
    jobs = [one_bench.create("hold") for _ in range(1 + bool(way))]
    worker = one_bench.worker(*way, dbq=ASLEEP)
    one_bench.wait_until_begun(*jobs)
    worker.popen.terminate()
    for job in jobs:
        one_bench.wait_for(job, "STOPPING")
    one_bench.go_on()
    assert worker.wait() == 0, worker.log()
    assert [facts(job)[:3] for job in jobs] == [("READY", "count", 0)] * len(jobs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["hold", "hold_atomic"])
def test_a_second_signal_ends_it_at_once_and_the_job_is_given_back(one_bench, way, name):
    job = one_bench.create(name)
    worker = one_bench.worker(*way, dbq=ASLEEP)
    one_bench.wait_until_begun(job)
    worker.popen.terminate()
    one_bench.wait_for(job, "STOPPING")
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()
    assert facts(job) == ("NEW", "hold", 0, None, None) and one_bench.runs(job, "outcome") == []
    one_bench.go_on()
    assert one_bench.worker("--burst").wait() == 0
    assert one_bench.state(job) == "COMPLETE", one_bench.runs(job, "error")
    assert one_bench.runs(job, "attempt") == [1, 1]


UNREAD = ("bash", "-c", 'exec "$0" "$@" > >(true)')  # What reads its output is gone.


@pytest.mark.parametrize("way", WAYS)
def test_a_second_signal_ends_it_though_nobody_reads_what_it_printed(one_bench, way):
    job = one_bench.create("hold")
    worker = one_bench.worker(*way, dbq=ASLEEP, prefix=UNREAD, PYTHONUNBUFFERED="")
    one_bench.wait_until_begun(job)
    worker.popen.terminate()
    one_bench.wait_for(job, "STOPPING")
    worker.popen.terminate()
    code = worker.wait(15)  # The task would go on for 30 seconds.
    assert facts(job) == ("NEW", "hold", 0, None, None)
    if "--processes" in way:
        assert worker.log().count("Worker ended") == 2 and "Worker fell" not in worker.log()
    else:
        assert code == 0, worker.log()


def test_a_job_half_way_is_given_back_as_ready(bench):
    job = bench.create("count_then_hold")
    worker = bench.worker(dbq=ASLEEP)
    bench.wait_until_begun(job)
    worker.popen.terminate()
    bench.wait_for(job, "STOPPING")
    worker.popen.send_signal(signal.SIGINT)
    assert worker.wait() == 0, worker.log()
    assert facts(job) == ("READY", "hold", 0, None, None)
    job.refresh_from_db()
    assert job.workspace["count"] == 1


def test_two_signals_in_a_row_do_as_well(one_bench):
    job = one_bench.create("hold")
    worker = one_bench.worker(dbq=ASLEEP)
    one_bench.wait_until_begun(job)
    for _ in range(2):
        worker.popen.terminate()
    one_bench.go_on()  # Two signals of one number may arrive as one.
    assert worker.wait() == 0, worker.log()
    assert facts(job)[2:] == (0, None, None) and job.state in ("NEW", "READY")


def test_workers_stop_when_their_supervisor_is_gone(one_bench):
    supervisor = one_bench.worker("--processes", "2", dbq={"POLL_INTERVAL_SECONDS": 0.1})
    one_bench.wait_until_idle(supervisor)
    wait_until(lambda: len(children(supervisor)) == 2, "two workers have started")
    supervisor.popen.kill()
    assert supervisor.wait() == -signal.SIGKILL
    wait_until(lambda: supervisor.log().count("Supervisor gone") == 2, "the workers have seen it")


@pytest.mark.postgresql
def test_signals_are_heard_while_a_task_waits_in_c(one_bench):
    job = one_bench.create("hold_in_c")
    worker = one_bench.worker(dbq=ASLEEP)
    one_bench.wait_until_begun(job)
    worker.popen.terminate()
    one_bench.wait_for(job, "STOPPING")
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()
    assert facts(job)[:3] == ("NEW", "hold_in_c", 0)
    with connection.cursor() as cursor:  # The server has not heard that its client is gone.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'"
        )


@pytest.mark.parametrize("name", ["nothing", "atomic_writes"])
def test_a_signal_is_heard_just_after_a_task(one_bench, name):
    """Then the main thread goes to wait: a handler of Python's own might not run for hours."""
    workers = [one_bench.worker(str(number), dbq={"POLL_INTERVAL_SECONDS": 0.1}) for number in range(5)]
    for number, worker in enumerate(workers):
        job = one_bench.create(name, queue_name=str(number))
        one_bench.wait_for(job)
        worker.popen.terminate()
    for worker in workers:
        assert worker.wait() == 0, worker.log()
