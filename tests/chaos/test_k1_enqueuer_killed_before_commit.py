"""K1: the enqueuer is killed with -9 in its transaction.

Expected: no job, and no NOTIFY; what the transaction wrote besides is gone with it.
"""

import threading

from django_dbq.worker.listener import Listener
from tests.chaos.cluster import ALIAS
from tests.conftest import wait_until


def test_the_job_never_existed_and_nobody_is_told(chaos):
    heard = threading.Event()
    listener = Listener(ALIAS, ["default"], heard.set)
    listener.start()
    wait_until(
        lambda: chaos.rows("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND state = 'idle'"),
        "somebody to listen",
    )
    chaos.hold("enqueue")
    enqueuer = chaos.start(["-m", "tests.chaos.enqueue"])
    wait_until((chaos.folder / "created").exists, "the insert")
    enqueuer.kill()
    wait_until(lambda: not chaos.cluster.sessions(chaos.name), "its backend to end")
    assert len(chaos.ledger.notes("creation_hook")) == 1
    assert chaos.rows("SELECT count(*) FROM django_dbq_job") == [(0,)]
    assert chaos.rows("SELECT count(*) FROM chaos_effect") == [(0,)]
    # What is announced next is heard first: nothing came before it.
    assert not heard.is_set()
    chaos.create("plain")
    assert heard.wait(20)
    listener.stop()
