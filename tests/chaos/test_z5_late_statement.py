"""Z5: a record or an extend is on its way while the job is rescued. (All orders: tests/isolation.)

Expected: the rescue wins; the late statement matches no row; the second attempt is not disturbed.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("tag", ["record", "extend"])
def test_it_changes_nothing_when_it_arrives(chaos, tag):
    proxy = chaos.proxy()
    trap = proxy.hold(tag, "before")
    chaos.hold()
    job = chaos.create("plain_three")
    slow = chaos.worker(through=proxy, ready=False, LEASE_SECONDS=3)
    chaos.wait_begun(job)
    if tag == "record":
        chaos.let_go(pid=slow.pid)
    trap.wait()
    other = chaos.worker(LEASE_SECONDS=3)
    chaos.wait_begun(job, times=2)
    before = chaos.value(job, "claim")
    proxy.heal()
    chaos.fault("the late statement arrives")
    chaos.let_go(pid=slow.pid)
    chaos.wait_dropped(slow)
    assert chaos.value(job, "claim") == before
    assert f":{other.pid}:" in chaos.value(job, "claimed_by")
    chaos.let_go()
    chaos.wait_state(job)
    assert chaos.runs(job) == [(0, "lost"), (0, "done"), (1, "done"), (2, "done")]
    chaos.assert_kept()
