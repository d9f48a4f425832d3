"""Z6: two workers do the upkeep, one of them paused in the middle of it.

Expected: there is no leader; upkeep is guarded by the rows, so two are harmless.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_paused_rescue_and_another_s_count_one_loss(chaos, when):
    job = chaos.create("plain")
    chaos.rows(
        "UPDATE django_dbq_job SET state = 'PROCESSING', claim = 1, attempt = 1, claimed_by = 'gone:1:x',"
        " lease_until = now() - interval '1 minute'"
    )
    proxy = chaos.proxy()
    trap = proxy.hold("rescue", when)
    paused = chaos.worker(through=proxy, ready=False)
    trap.wait()
    paused.freeze()
    chaos.worker()
    chaos.wait_state(job)
    proxy.heal()
    paused.thaw()
    later = [chaos.create("plain") for _ in range(10)]
    for other in later:
        chaos.wait_state(other)
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    assert chaos.value(job, "lost_attempts") == 1
    chaos.assert_kept()
