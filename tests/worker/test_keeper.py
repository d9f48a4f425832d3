"""What the keeper does with its time; what it does with jobs is seen in the other files."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_dbq import Job
from django_dbq.worker.backlog import Backlog
from django_dbq.worker.executor import Executor
from django_dbq.worker.keeper import Keeper
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.slot import Slot


@pytest.mark.django_db
def test_a_keeper_whose_rate_limit_has_passed_waits_while_a_task_runs():
    settings = WorkerSettings(using="default", rate_limit_seconds=0.1)
    keeper = Keeper(settings, Executor("default", "host:1:abc"), Backlog(), [Slot()], lambda: None)
    keeper._keep_up()
    assert keeper._patience() == 0.0  # Nothing is held: it may claim now.
    job = Job(name="nothing")
    keeper._held[job.id] = job
    assert keeper._patience() > 0.0


@pytest.mark.django_db(transaction=True)
def test_an_idle_round_is_a_few_statements_and_one_between_the_polls_is_none():
    """Paused queues, fire, stage, wake, rescue and claim; every third of a lease also a report."""
    settings = WorkerSettings(using="default")
    keeper = Keeper(settings, Executor("default", "host:1:abc"), Backlog(), [Slot()], lambda: None)

    def a_round():
        with CaptureQueriesContext(connection) as ran:
            keeper._report()
            keeper._keep_up()
            keeper._claim()
            keeper._extend()
        return [query["sql"] for query in ran]

    a_round()
    assert a_round() == []
    keeper._upkeep.due_at = 0.0
    statements = a_round()
    assert len(statements) <= {"postgresql": 6, "sqlite": 9, "mysql": 12}[connection.vendor], statements
    keeper._upkeep.ended(1)
    keeper._upkeep.wake_at = 0.0
    assert len(a_round()) == 1  # One look at that group.
