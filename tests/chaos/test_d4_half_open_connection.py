"""D4: half-open: packets are swallowed in one direction or both, the sockets stay up.

Expected: a timeout fires; the lease is not trusted past its deadline; another worker takes over; the old
one is fenced, and serves again once the network does.
"""

import pytest

from tests.chaos.proxy import DOWN, UP
from tests.conftest import wait_until

LATE = pytest.mark.chaos("ci")


@pytest.mark.parametrize(
    "directions",
    [pytest.param((UP,), marks=LATE), pytest.param((DOWN,), marks=LATE), (UP, DOWN)],
    ids=["up", "down", "both"],
)
@pytest.mark.parametrize("name", ["plain", "atomic"])
def test_another_worker_takes_over_and_the_old_one_is_fenced(chaos, directions, name):
    proxy = chaos.proxy()
    chaos.hold()
    job = chaos.create(name)
    cut_off = chaos.worker(through=proxy)
    chaos.wait_begun(job)
    if name == "atomic":
        wait_until(lambda: chaos.ledger.notes("written", job), "the write")
    proxy.blackhole(*directions)
    chaos.fault(f"swallowing {directions}")
    other = chaos.worker()
    chaos.wait_begun(job, times=2)
    chaos.let_go(pid=other.pid)
    chaos.wait_state(job)
    before = chaos.value(job, "to_jsonb(django_dbq_job)")
    other.kill()
    chaos.let_go()
    wait_until(lambda: len(chaos.ledger.ended(job)) == 2, "the first attempt to end")
    proxy.heal()
    chaos.fault("healed")
    later = chaos.create(name)
    chaos.wait_state(later, seconds=30)
    assert chaos.ledger.begun(later)[0]["pid"] == cut_off.pid
    assert chaos.value(job, "to_jsonb(django_dbq_job)") == before
    chaos.assert_kept()
