"""P6: a task takes memory until the system kills its process.

Expected: as K5: the system's killer sends SIGKILL; and --max-rss replaces a worker that has grown.
"""

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


def test_a_worker_that_has_grown_is_replaced(chaos):
    supervisor = chaos.worker("--processes", "2", "--max-rss", "250")
    job = chaos.create("hog")
    chaos.wait_state(job)
    chaos.wait_said(supervisor, "Too large, stopping")
    grown = chaos.ledger.begun(job)[0]["pid"]
    wait_until(lambda: grown not in supervisor.children(), "it to be gone")
    chaos.wait_children(supervisor, 2)
    assert not supervisor.said("Worker fell")
    later = chaos.create("plain")
    chaos.wait_state(later)
    chaos.assert_kept()
