"""K10: cut off or killed while it extends a lease.

Expected: nothing is lost; the next extend, or a rescue, follows.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_extend_is_repeated_and_the_task_runs_once(chaos, when):
    proxy = chaos.proxy()
    chaos.hold()
    trap = proxy.cut("extend", when)
    job = chaos.create("plain")
    chaos.worker(through=proxy, LEASE_SECONDS=3)
    trap.wait()
    first = chaos.value(job, "lease_until")
    chaos.wait_extended(job, first)
    chaos.let_go()
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job)) == 1
    assert chaos.runs(job) == [(0, "done")]
    chaos.assert_kept()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_in_an_extend_loses_its_job_to_another(chaos, when):
    proxy = chaos.proxy()
    chaos.hold()
    trap = proxy.hold("extend", when)
    job = chaos.create("plain")
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    proxy.heal()
    chaos.let_go()
    chaos.worker()
    chaos.wait_state(job)
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    chaos.assert_kept()
