"""D3: only the backend that listens is terminated.

Expected: polling covers for it, within the poll interval; the listener connects again.
"""

from tests.conftest import wait_until

LISTENS = "query LIKE 'LISTEN%%' AND state = 'idle'"


def test_polling_covers_for_it(chaos):
    chaos.worker(POLL_INTERVAL_SECONDS=0.5)
    chaos.cluster.terminate(chaos.cluster.sessions(chaos.name, LISTENS))
    job = chaos.create("plain")
    chaos.wait_state(job, seconds=0.5 + 2)


def test_the_listener_connects_again(chaos):
    worker = chaos.worker(POLL_INTERVAL_SECONDS=600)
    [old] = chaos.cluster.sessions(chaos.name, LISTENS)
    chaos.cluster.terminate([old])
    wait_until(lambda: set(chaos.cluster.sessions(chaos.name, LISTENS)) - {old}, "somebody to listen")
    assert worker.said("Listening interrupted")
    job = chaos.create("plain")
    chaos.wait_state(job)
