"""Z2: as Z1, while the second attempt is still running.

Expected: the same; a guard on the state alone would let the zombie's record pass.
"""

from tests.conftest import wait_until


def test_the_zombie_s_record_does_not_end_the_second_attempt(chaos):
    chaos.hold()
    job = chaos.create("plain_three")
    zombie = chaos.worker()
    chaos.wait_begun(job)
    zombie.freeze()
    chaos.fault(f"frozen {zombie.pid}")
    other = chaos.worker()
    chaos.wait_begun(job, times=2)
    zombie.thaw()
    chaos.let_go(pid=zombie.pid)
    chaos.fault("thawed and let go")
    wait_until(lambda: zombie.said("Lease lost, outcome dropped"), "the zombie to find out")
    assert chaos.state(job) == "PROCESSING"
    assert chaos.value(job, "position") == 0
    assert f":{other.pid}:" in chaos.value(job, "claimed_by")
    assert chaos.runs(job) == [(0, "lost")]
    chaos.let_go()
    chaos.wait_state(job)
    assert chaos.runs(job) == [(0, "lost"), (0, "done"), (1, "done"), (2, "done")]
    chaos.assert_kept()
