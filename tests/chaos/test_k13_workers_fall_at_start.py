"""K13: each child dies as soon as it has started.

Expected: restarted with back-off, bounded: no fork storm; the supervisor gives up with a non-zero code.
"""

import signal
import time

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


def test_there_is_no_fork_storm_and_a_signal_ends_it(chaos):
    chaos.cluster.drop(chaos.name)  # Each keeper gives up at its first statement.
    supervisor = chaos.worker("--processes", "2", ready=False, DATABASE_RETRY_SECONDS=0)
    wait_until(lambda: supervisor.log().count("Worker fell") >= 5, "five falls")
    times = [line.split(" INFO")[0] for line in supervisor.log().splitlines() if "Worker started" in line]
    assert len(times) <= 8
    supervisor.signal(signal.SIGTERM)
    began = time.monotonic()
    supervisor.wait()
    assert time.monotonic() - began < 3


@pytest.mark.chaos("all")
def test_it_gives_up_in_the_end(chaos):
    chaos.cluster.drop(chaos.name)
    supervisor = chaos.worker("--processes", "2", ready=False, DATABASE_RETRY_SECONDS=0)
    assert supervisor.wait(240) == 1
    assert supervisor.said("Workers keep falling, stopping: falls=10")
    assert supervisor.log().count("Worker started") <= 12
