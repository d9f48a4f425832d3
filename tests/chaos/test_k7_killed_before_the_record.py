"""K7: killed with -9 after the task, before its record.

Expected: a plain task runs again; an atomic one was not applied, and runs again once.
"""

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize(
    ("name", "mark"), [("plain", "record"), ("atomic", "record"), ("atomic", "COMMIT")], ids=str
)
@pytest.mark.parametrize("arrives", ["never", "late"])
def test_the_task_runs_again(chaos, name, mark, arrives):
    proxy = chaos.proxy()
    trap = proxy.hold(mark, "before")
    job = chaos.create(name)
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    assert len(chaos.ledger.ended(job)) == 1
    if arrives == "never":
        proxy.reset()
        wait_until(lambda: not chaos.cluster.sessions(chaos.name), "its backends to end")
        assert chaos.effects(job) == 0
    proxy.heal()
    chaos.worker()
    chaos.wait_state(job)
    if arrives == "never":
        assert len(chaos.ledger.begun(job)) == 2
        assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    chaos.assert_kept()


def test_while_somebody_else_holds_the_row(chaos):
    chaos.hold()
    job = chaos.create("plain")
    worker = chaos.worker()
    chaos.wait_begun(job)
    with chaos.session() as other:
        other("BEGIN")
        other("SELECT 1 FROM django_dbq_job WHERE id = %s FOR UPDATE", [job.id])
        chaos.let_go()
        wait_until(lambda: chaos.ledger.ended(job), "the task to end")
        worker.kill()
        other("ROLLBACK")
    chaos.worker()
    chaos.wait_state(job)
    chaos.assert_kept()
