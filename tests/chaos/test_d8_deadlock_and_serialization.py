"""D8: a deadlock (40P01) is forced; serialization failures (40001) where those levels are the default.

Expected: the whole statement is tried again, and nothing is lost or doubled.
"""

import threading

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


def test_a_deadlock_makes_the_record_wait_and_try_again(chaos):
    proxy = chaos.proxy()
    first = chaos.create("plain")
    batch = [chaos.create("plain") for _ in range(3)]
    for job in [first, *batch]:
        chaos.hold(job.id)
    trap = proxy.hold("record", "before")
    worker = chaos.worker("--threads", "4", through=proxy, LEASE_SECONDS=60, ready=False)
    for job in [first, *batch]:
        chaos.wait_begun(job)
    # While its first record is held up, three more tasks end: they are recorded together.
    chaos.let_go(first.id)
    trap.wait()
    for job in batch:
        chaos.let_go(job.id)
    wait_until(lambda: len(chaos.ledger.ended()) == 4, "all tasks to end")
    with chaos.session() as other:
        other("SET deadlock_timeout = '1min'")  # The worker is to find it.
        other("BEGIN")
        other("SELECT 1 FROM django_dbq_job WHERE id = %s FOR UPDATE", [batch[-1].id])
        proxy.heal()
        waits = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%dbq:record%%'"
        )
        wait_until(lambda: chaos.rows(waits), "the record to wait")

        def close_the_circle():
            other("SELECT 1 FROM django_dbq_job WHERE id = ANY(%s) FOR UPDATE", [[job.id for job in batch]])

        thread = threading.Thread(target=close_the_circle)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        wait_until(lambda: worker.said("deadlock detected"), "the deadlock")
        other("ROLLBACK")
    chaos.wait_all()
    assert chaos.assert_kept().again == 0


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_stricter_levels_cost_repetition_and_nothing_else(chaos, level):
    options = {"options": f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"}
    workers = [chaos.worker("--processes", "2", options=options, LEASE_SECONDS=20) for _ in range(2)]
    for _ in range(60):
        chaos.create("patient")
    chaos.wait_all()
    chaos.assert_kept()
    assert all(worker.alive() for worker in workers)
    assert not any(worker.said("Record refused") for worker in workers)


def test_a_row_changed_under_an_atomic_task_at_a_stricter_level(chaos):
    chaos.hold()
    job = chaos.create("atomic")
    options = {"options": "-c default_transaction_isolation=serializable"}
    worker = chaos.worker(options=options, LEASE_SECONDS=20)
    wait_until(lambda: chaos.ledger.notes("written", job), "the write")
    chaos.rows("UPDATE django_dbq_job SET priority = 5 WHERE id = %s", [job.id])
    chaos.let_go()
    chaos.wait_state(job)
    assert worker.said("could not serialize") or worker.said("Database failed, given back")
    assert len(chaos.ledger.begun(job)) == 2
    assert chaos.effects(job) == 1
    chaos.assert_kept()
