"""K3: a worker is killed with -9 after it has sent a claim, before the answer.

Expected: the claim either never happened, or was committed and is nobody's: then the job is rescued
after the lease, and the attempt is counted.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("arrives", ["never", "late"])
def test_a_claim_that_had_not_reached_the_server(chaos, arrives):
    proxy = chaos.proxy()
    trap = proxy.hold("claim", "before")
    job = chaos.create("plain")
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    if arrives == "never":
        proxy.reset()
    proxy.heal()
    chaos.worker()
    chaos.wait_state(job)
    assert chaos.runs(job)[-1] == (0, "done")
    assert len(chaos.ledger.begun(job)) == 1
    chaos.assert_kept()


def test_a_claim_that_was_carried_out(chaos):
    proxy = chaos.proxy()
    trap = proxy.hold("claim", "after")
    job = chaos.create("plain")
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    assert chaos.state(job) == "PROCESSING"
    chaos.worker()
    chaos.wait_state(job)
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    assert [note["attempt"] for note in chaos.ledger.begun(job)] == [2]
    chaos.assert_kept()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_lives_finds_the_job_itself(chaos, when):
    proxy = chaos.proxy()
    trap = proxy.cut("claim", when)
    job = chaos.create("plain")
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    chaos.wait_state(job)
    assert [note["pid"] for note in chaos.ledger.begun(job)] == [worker.pid]
    chaos.assert_kept()
