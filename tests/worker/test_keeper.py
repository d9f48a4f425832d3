"""What the keeper does with its time; what it does with jobs is seen in the other files."""

from __future__ import annotations

import pytest

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
