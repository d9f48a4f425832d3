"""A supervisor for whose workers the system has no room."""

from __future__ import annotations

import os
import signal

from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP, children


def crowded(bench, refused, dbq):
    settings = {"DJANGO_SETTINGS_MODULE": "tests.worker.crowded_settings", "TEST_REFUSED_FORK": str(refused)}
    return bench.worker("--processes", "2", dbq=dbq, **settings)


def refusals(worker):
    return worker.log().count("ERROR Worker not started: [Errno 11] Resource temporarily unavailable")


def test_a_supervisor_that_cannot_start_a_worker_keeps_the_others_and_hears_signals(one_bench):
    supervisor = crowded(one_bench, refused=2, dbq={"POLL_INTERVAL_SECONDS": 0.1})
    wait_until(lambda: refusals(supervisor), "the system refuses")
    one_bench.wait_for(one_bench.create("nothing"))
    supervisor.popen.terminate()
    assert supervisor.wait() == 0, supervisor.log()
    assert supervisor.log().count("Worker ended") == len(children(supervisor))


def test_a_worker_that_starts_after_one_that_could_not_takes_back_the_jobs_of_the_fallen(one_bench):
    job = one_bench.create("hold")
    supervisor = crowded(one_bench, refused=3, dbq=ASLEEP)
    [pid] = one_bench.wait_until_begun(job)
    wait_until(lambda: len(children(supervisor)) == 2, "both have started")
    os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: refusals(supervisor), "the system refuses")
    one_bench.go_on()
    one_bench.wait_for(job)  # Its lease lasts for ten minutes.
    assert one_bench.runs(job, "outcome") == ["lost", "done", "done"]
