"""D5: a slow network: 50 to 500 ms, one byte a second, connections broken one after the other.

Expected: correct, only slower; leases of all jobs are extended in one round trip, so none runs out.
"""

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("seconds", [0.05, pytest.param(0.5, marks=pytest.mark.chaos("ci"))], ids=str)
def test_latency_costs_no_lease(chaos, seconds):
    proxy = chaos.proxy()
    proxy.latency(seconds)
    for _ in range(10):
        chaos.create("three", workspace={"seconds": 0.1})
    worker = chaos.worker("--threads", "4", through=proxy, LEASE_SECONDS=10, ready=False)
    chaos.wait_all(90)
    assert chaos.assert_kept().again == 0
    assert not worker.said("Lease lost")


def test_at_one_byte_a_second_another_worker_takes_over(chaos):
    proxy = chaos.proxy()
    chaos.hold()
    job = chaos.create("plain")
    slow = chaos.worker(through=proxy)
    chaos.wait_begun(job)
    proxy.bandwidth(1)
    other = chaos.worker()
    chaos.wait_begun(job, times=2)
    chaos.let_go()
    chaos.wait_state(job)
    other.kill()
    proxy.heal()
    later = chaos.create("plain")
    chaos.wait_state(later, seconds=30)
    assert chaos.ledger.begun(later)[0]["pid"] == slow.pid
    chaos.assert_kept()


def test_connections_broken_one_after_the_other(chaos):
    proxies = [chaos.proxy() for _ in range(3)]
    workers = [chaos.worker(through=proxy) for proxy in proxies]
    for _ in range(60):
        chaos.create("patient", workspace={"seconds": 0.02})
    wait_until(chaos.ledger.begun, "work to begin")
    for broken in range(12):
        chaos.fault(f"reset {broken % 3}")
        proxies[broken % 3].reset()
        proxies[(broken + 1) % 3].partition()
        known = len(chaos.ledger.ended())
        wait_until(lambda known=known: len(chaos.ledger.ended()) > known or not chaos.live(), "work to go on")
        proxies[(broken + 1) % 3].heal()
    chaos.wait_all()
    chaos.assert_kept()
    assert all(worker.alive() for worker in workers)
