"""P7: a task enqueues very many jobs in one transaction; a job enqueues itself.

Expected: one NOTIFY; another queue's worker is not held up; the queue's depth shows it.
"""

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")

CHILDREN = 20_000


def test_many_jobs_of_one_transaction_are_announced_once(chaos):
    proxy = chaos.proxy()
    chaos.hold()  # The children wait, so that the queue stays deep.
    first, second = proxy.watch("announce", 1), proxy.watch("announce", 2)
    chaos.worker("--max-jobs", "1", through=proxy)
    parent = chaos.create("breed", workspace={"children": CHILDREN})
    chaos.wait_state(parent, seconds=60)
    first.wait()
    chaos.worker("other", ready=False)
    other = chaos.create("other_queue")
    chaos.let_go()
    chaos.wait_state(other)
    assert not second.sprung.is_set()
    depth = chaos.start(["manage.py", "queue_depth", "default"])
    assert depth.wait() == 0
    assert f"default={CHILDREN}" in depth.log()


def test_a_job_that_enqueues_itself_leaves_room_for_others(chaos):
    chaos.worker()
    chaos.create("self_breeding")
    wait_until(lambda: len(chaos.ledger.begun()) > 20, "generations")
    for _ in range(5):
        job = chaos.create("plain")
        chaos.wait_state(job)
