"""D1: PostgreSQL is restarted, fast and immediate, under load.

Expected: no loss; workers reconnect with back-off; only commits without an answer are in doubt;
throughput is back in less than ten seconds.
"""

import time

import pytest

from tests.chaos.harness import LEASE_SECONDS
from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("socket", [False, True], ids=["tcp", "socket"])
def test_nothing_is_lost_and_work_goes_on(chaos, mode, socket):
    workers = [chaos.worker(socket=socket), chaos.worker("--processes", "2", socket=socket)]
    for _ in range(100):
        chaos.create("patient", workspace={"seconds": 0.02})
    wait_until(lambda: len(chaos.ledger.ended()) > 20, "work to be under way")
    chaos.cluster.restart(mode)
    chaos.fault(f"restarted PostgreSQL, {mode}")
    back = time.monotonic()
    recorded = "SELECT count(*) FROM django_dbq_taskrun WHERE outcome = 'done'"
    [(before,)] = chaos.rows(recorded)
    wait_until(lambda: chaos.rows(recorded)[0][0] > before + 20, "work to go on", 30)
    assert time.monotonic() - back < 10
    chaos.wait_all()
    chaos.assert_kept()
    for worker in workers:
        assert worker.alive()
        assert not worker.said("Record refused") and not worker.said("Worker stops")


def test_a_server_that_stays_away_for_a_while_costs_no_running_task(chaos):
    chaos.hold()
    job = chaos.create("plain")
    worker = chaos.worker(LEASE_SECONDS=60)
    chaos.wait_begun(job)
    chaos.cluster.stop("immediate")
    chaos.fault("stopped PostgreSQL")
    chaos.let_go()
    wait_until(lambda: worker.log().count("Database error") >= 4, "tries to record")
    chaos.cluster.start()
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job)) == 1
    assert chaos.runs(job) == [(0, "done")]


@pytest.mark.parametrize("workers", [["--threads", "1"], ["--processes", "2"]], ids=["one worker", "two"])
@pytest.mark.parametrize("name", ["plain", "atomic"])
def test_a_server_away_for_longer_than_a_lease_loses_no_claim_of_a_worker_that_lives(chaos, workers, name):
    chaos.hold()
    jobs = [chaos.create(name) for _ in range(1 if "1" in workers else 2)]
    worker = chaos.worker(*workers)
    for job in jobs:
        chaos.wait_begun(job)
    chaos.cluster.stop("fast")
    chaos.fault("stopped PostgreSQL")
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + 2 * LEASE_SECONDS, "the leases to be over")
    chaos.cluster.start()
    expired = "SELECT count(*) FROM django_dbq_job WHERE lease_until < statement_timestamp()"
    wait_until(lambda: chaos.rows(expired) == [(0,)], "the leases to be renewed")
    chaos.let_go()
    for job in jobs:
        chaos.wait_state(job)
        if name == "plain":  # The transaction of the other was gone with the server.
            assert len(chaos.ledger.begun(job)) == 1
    assert not worker.said("Rescued") and not worker.said("Lease lost")
