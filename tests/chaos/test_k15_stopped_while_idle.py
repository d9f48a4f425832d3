"""K15: SIGTERM while idle in LISTEN, or in back-off.

Expected: exits with 0 in less than a second.
"""

import signal
import time

import pytest

from tests.conftest import wait_until

MODES = pytest.mark.parametrize("args", [(), ("--processes", "2")], ids=["worker", "supervisor"])


@MODES
def test_idle(chaos, args):
    worker = chaos.worker(*args, POLL_INTERVAL_SECONDS=60)
    worker.signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.wait() == 0
    assert time.monotonic() - began < 1


@MODES
def test_while_the_database_is_away(chaos, args):
    worker = chaos.worker(*args)
    chaos.cluster.stop("immediate")
    chaos.fault("stopped PostgreSQL")
    try:
        wait_until(lambda: worker.log().count("Database error") >= 5, "back-off")
        worker.signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.wait() == 0
        assert time.monotonic() - began < 1
    finally:
        chaos.cluster.start()
