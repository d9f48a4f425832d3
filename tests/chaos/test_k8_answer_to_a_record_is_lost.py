"""K8: a record is committed, and its answer is lost: cut(record) after.

Expected: the worker records again on a new connection, finds its claim in the history and takes it as
its own success; the task is not repeated, its hooks run once.
"""

import pytest

from tests.conftest import wait_until


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_task_is_not_repeated_and_its_hooks_run_once(chaos, when):
    proxy = chaos.proxy()
    trap = proxy.cut("record", when)
    job = chaos.create("hooked")
    worker = chaos.worker(through=proxy)
    trap.wait()
    chaos.wait_state(job)
    notes = [note["what"] for note in chaos.ledger.notes()]
    assert notes == ["pre_task_hook", "begin", "end", "post_task_hook"]
    assert chaos.runs(job) == [(0, "done")]
    # The record stands before its worker knows that the answer is lost.
    wait_until(lambda: worker.said("Database error, trying again"), "the worker has said so")
    assert not worker.said("Lease lost")
    chaos.assert_kept()


def test_a_record_cut_off_while_it_is_being_sent_is_not_taken_for_one_that_the_database_refuses(chaos):
    proxy = chaos.proxy()
    trap = proxy.cut("record", "before")
    job = chaos.create("plain", workspace={"ballast": "x" * 900_000})
    worker = chaos.worker(through=proxy)
    trap.wait()
    chaos.wait_state(job)
    assert chaos.runs(job) == [(0, "done")]
    assert not worker.said("Record refused")
    chaos.assert_kept()


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_the_job_goes_on_where_the_record_left_it(chaos, nth):
    proxy = chaos.proxy()
    trap = proxy.cut("record", "after", nth)
    job = chaos.create("plain_three")
    worker = chaos.worker(through=proxy, LEASE_SECONDS=60)
    trap.wait()
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job)) == 3
    assert chaos.runs(job) == [(0, "done"), (1, "done"), (2, "done")]
    assert not worker.said("Lease lost")
    chaos.assert_kept()


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_commit_of_an_atomic_task_is_not_applied_twice(chaos, when):
    proxy = chaos.proxy()
    trap = proxy.cut("COMMIT", when)
    job = chaos.create("atomic")
    chaos.worker(through=proxy)
    trap.wait()
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job)) == (1 if when == "after" else 2)
    assert chaos.effects(job) == 1
    chaos.assert_kept()


def test_the_task_after_an_atomic_one_begins_at_once(chaos):
    proxy = chaos.proxy()
    trap = proxy.cut("COMMIT", "after")
    job = chaos.create("three")
    chaos.worker(through=proxy, LEASE_SECONDS=60)
    trap.wait()
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job)) == 3
    assert chaos.runs(job) == [(0, "done"), (1, "done"), (2, "done")]
    chaos.assert_kept()
