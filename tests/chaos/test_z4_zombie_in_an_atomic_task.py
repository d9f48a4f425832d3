"""Z4: the atomic task of a zombie tries to commit.

Expected: its record, in the same transaction, matches no row: rolled back, its writes vanish.
"""

import pytest

from tests.conftest import wait_until


@pytest.mark.parametrize(
    "beside", [False, True], ids=["after the second attempt", "beside the second attempt"]
)
def test_its_writes_vanish(chaos, beside):
    chaos.hold()
    job = chaos.create("atomic")
    zombie = chaos.worker()
    wait_until(lambda: chaos.ledger.notes("written", job), "the zombie's write")
    zombie.freeze()
    chaos.fault(f"frozen {zombie.pid}, its transaction open")
    other = chaos.worker()
    wait_until(lambda: len(chaos.ledger.notes("written", job)) == 2, "the second attempt's write")
    if not beside:
        chaos.let_go(pid=other.pid)
        chaos.wait_state(job)
    zombie.thaw()
    chaos.let_go(pid=zombie.pid)
    wait_until(lambda: zombie.said("Lease lost, outcome dropped"), "the zombie to find out")
    chaos.let_go()
    chaos.wait_state(job)
    assert len(chaos.ledger.ended(job)) == 2
    assert chaos.effects(job) == 1
    assert chaos.rows("SELECT session FROM chaos_effect") == [(f"worker {other.pid}",)]
    chaos.assert_kept()
