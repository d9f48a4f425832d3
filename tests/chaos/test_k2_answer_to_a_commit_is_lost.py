"""K2: the answer to the enqueuer's COMMIT is lost.

Expected: the caller gets an error and cannot know; the job exists once and runs. A caller that has
chosen the id may try again: it never makes a second job.
"""

from django_dbq.models import uuid7
from tests.conftest import wait_until


def enqueue(chaos, key, **how):
    return chaos.start(["-m", "tests.chaos.enqueue", str(key)], **how)


def test_the_job_exists_once(chaos):
    proxy, key = chaos.proxy(), uuid7()
    trap = proxy.cut("COMMIT", "after")
    caller = enqueue(chaos, key, through=proxy)
    trap.wait()
    assert caller.wait() == 1
    assert caller.said("OperationalError")
    again = enqueue(chaos, key)
    assert again.wait() == 1
    assert again.said("IntegrityError")
    assert chaos.rows("SELECT id, state FROM django_dbq_job") == [(key, "NEW")]
    chaos.created[str(key)] = "enqueued"
    chaos.worker()
    chaos.wait_all()
    assert len(chaos.ledger.begun()) == 1


def test_before_the_commit_it_does_not(chaos):
    proxy, key = chaos.proxy(), uuid7()
    trap = proxy.cut("COMMIT", "before")
    assert enqueue(chaos, key, through=proxy).wait() == 1
    trap.wait()
    wait_until(lambda: not chaos.cluster.sessions(chaos.name), "its backend to end")
    assert chaos.rows("SELECT count(*) FROM django_dbq_job") == [(0,)]
    assert enqueue(chaos, key).wait() == 0
    assert chaos.rows("SELECT id FROM django_dbq_job") == [(key,)]
