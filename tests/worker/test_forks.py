"""What a process that a task forks has of its worker."""

from __future__ import annotations

import signal

import pytest

POLLING = {"POLL_INTERVAL_SECONDS": 0.1}
WAYS = [[], ["--threads", "2"], ["--processes", "2"]]


def assert_goes_on(bench, worker):
    """See that nothing has asked this worker to stop."""
    bench.wait_for(bench.create("nothing"))
    assert worker.popen.poll() is None, worker.log()
    assert not any(said in worker.log() for said in ("Stopping", "Worker ended", "Worker fell")), worker.log()
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()


@pytest.mark.parametrize("way", WAYS)
def test_a_task_may_have_a_pool_of_processes(one_bench, way):
    job = one_bench.create("pool")
    worker = one_bench.worker(*way, dbq=POLLING)
    one_bench.wait_for(job)
    job.refresh_from_db()
    assert job.result == [1, 2, 3]
    assert_goes_on(one_bench, worker)


ENDS = [(number, -number, way) for number in (signal.SIGTERM, signal.SIGQUIT) for way in WAYS]
# Python 3.13.0 itself raises nothing for a SIGINT in a process that another thread than the main one forked.
ENDS.append((signal.SIGINT, 1, WAYS[0]))


@pytest.mark.parametrize("number, end, way", ENDS)
def test_a_signal_to_a_forked_process_is_its_own(one_bench, number, end, way):
    job = one_bench.create("fork", {"signal": number})
    worker = one_bench.worker(*way, dbq=POLLING)
    one_bench.wait_for(job)
    job.refresh_from_db()
    assert job.result == [end]
    assert_goes_on(one_bench, worker)
