"""D2: all backends are terminated, once and every 200 ms.

Expected: no loss, no task recorded twice; workers reconnect; no busy loop (log lines bounded).
"""

import time

import pytest

from tests.conftest import wait_until

JOBS = 40


@pytest.mark.parametrize("times", [1, 15])
def test_nothing_is_lost_or_recorded_twice(chaos, times):
    workers = [chaos.worker(), chaos.worker("--processes", "2")]
    for _ in range(JOBS):
        chaos.create("patient", workspace={"seconds": 0.02})
    wait_until(chaos.ledger.begun, "work to begin")
    for _ in range(times):
        pids = chaos.cluster.sessions(chaos.name)
        chaos.cluster.terminate(pids)
        chaos.fault(f"terminated {len(pids)} backends")
        time.sleep(0.2)  # The fault's own rhythm.
    chaos.wait_all()
    chaos.assert_kept()
    for worker in workers:
        processes = max(1, len(worker.children()))
        complaints = worker.log().count("Database error") + worker.log().count("Listening interrupted")
        assert complaints <= 3 * processes * times + 2, worker.log()
        assert worker.alive()
