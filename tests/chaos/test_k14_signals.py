"""K14: SIGTERM once, twice, five times; SIGINT and SIGQUIT; with the database there, and away.

Expected: once: no more claims, running tasks finish (up to the grace), the rest is given back with no
attempt counted. Twice: at once. Any number more changes nothing. Exit code 0. With the database away
nothing can be given back: the same, but with 1.
"""

import signal
import time

import pytest

from tests.conftest import wait_until

MODES = pytest.mark.parametrize("args", [(), ("--processes", "2")], ids=["worker", "supervisor"])


@MODES
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_one_signal_lets_the_running_task_finish(chaos, args, number):
    if number != signal.SIGTERM and args:
        args = ("--processes", "1", "--threads", "2")
    chaos.hold()
    worker = chaos.worker(*args)
    job = chaos.create("plain")
    chaos.wait_begun(job)
    worker.signal(number)
    wait_until(lambda: chaos.state(job) == "STOPPING", "the worker to stop")
    later = chaos.create("plain")
    chaos.let_go()
    assert worker.wait() == 0
    assert chaos.state(job) == "COMPLETE"
    assert chaos.state(later) == "NEW"
    assert not chaos.ledger.begun(later)
    assert not chaos.trespasses()


@MODES
@pytest.mark.parametrize("times", [2, 5])
def test_a_second_signal_gives_the_running_task_back(chaos, args, times):
    chaos.hold()
    worker = chaos.worker(*args)
    job = chaos.create("plain")
    chaos.wait_begun(job)
    worker.signal(signal.SIGTERM)
    # A signal that comes before the last was handled is the same one.
    wait_until(lambda: chaos.state(job) == "STOPPING", "the worker to stop")
    for _ in range(times - 1):
        if worker.alive():
            worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    assert chaos.state(job) == "NEW"
    assert chaos.value(job, "attempt") == 0
    assert chaos.value(job, "lost_attempts") == 0
    assert chaos.runs(job) == []
    chaos.let_go()
    chaos.worker()
    chaos.wait_state(job)
    assert [note["attempt"] for note in chaos.ledger.begun(job)] == [1, 1]
    chaos.assert_kept()


@MODES
def test_the_grace_ends_what_does_not_finish(chaos, args):
    chaos.hold()
    worker = chaos.worker(*args, "--grace", "0.5")
    job = chaos.create("plain")
    chaos.wait_begun(job)
    worker.signal(signal.SIGTERM)
    assert worker.wait(8) == 0
    assert chaos.state(job) == "NEW"
    assert chaos.value(job, "attempt") == 0
    assert chaos.runs(job) == []


@pytest.fixture
def stop_database(chaos):
    """What stops the server, until the end of the test."""
    stopped = []

    def stop():
        chaos.cluster.stop("immediate")
        chaos.fault("stopped PostgreSQL")
        stopped.append(True)

    yield stop
    if stopped:
        chaos.cluster.start()


@pytest.fixture
def given_up(chaos, stop_database):
    """A worker whose task goes on, after it has waited for its database in vain."""
    chaos.hold()
    worker = chaos.worker(DATABASE_RETRY_SECONDS=0)
    chaos.wait_begun(chaos.create("plain"))
    stop_database()
    chaos.wait_said(worker, "Worker stops")
    return worker


def test_one_signal_lets_the_task_of_a_worker_finish_that_has_given_its_database_up(chaos, given_up):
    given_up.signal(signal.SIGTERM)
    chaos.let_go()
    assert given_up.wait() == 1
    assert len(chaos.ledger.ended()) == 1


def test_a_second_signal_ends_a_worker_that_has_given_its_database_up(chaos, given_up):
    for number in (signal.SIGTERM, signal.SIGINT):  # Two of one number may arrive as one.
        given_up.signal(number)
    assert given_up.wait() == 1
    assert not chaos.ledger.ended()


def test_the_grace_is_kept_while_the_database_is_away(chaos, stop_database):
    chaos.hold()
    worker = chaos.worker("--grace", "0.5")
    chaos.wait_begun(chaos.create("plain"))
    stop_database()
    wait_until(lambda: worker.log().count("Database error") >= 5, "back-off")
    worker.signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.wait() == 1
    assert time.monotonic() - began < 3
    assert not chaos.ledger.ended()


def test_the_grace_ends_a_worker_whose_database_says_nothing(chaos):
    chaos.hold()
    proxy = chaos.proxy()
    worker = chaos.worker("--grace", "0.5", through=proxy, LEASE_SECONDS=60)
    job = chaos.create("plain")
    chaos.wait_begun(job)
    proxy.partition()
    chaos.fault("partitioned")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    assert worker.said("Grace over, leaving")
    assert chaos.value(job, "claimed_by") and not chaos.ledger.ended()
