"""pause_queue, resume_queue, paused_queues and their commands; what workers make of it is in tests/worker."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from django_dbq import DBQError, Job, WorkerProcess, pause_queue, paused_queues, resume_queue

pytestmark = pytest.mark.django_db


def said(command, *args):
    out = StringIO()
    call_command(command, *args, stdout=out)
    return out.getvalue().strip()


def test_queues_are_paused_and_resumed_by_name():
    assert paused_queues() == []
    assert pause_queue("b") and pause_queue("a")
    assert paused_queues() == ["a", "b"]
    assert resume_queue("a")
    assert paused_queues() == ["b"]


def test_it_is_told_when_nothing_changes():
    assert pause_queue("a")
    assert not pause_queue("a")
    assert resume_queue("a")
    assert not resume_queue("a")


def test_a_pause_is_part_of_the_callers_transaction():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        pause_queue("a")
        raise ZeroDivisionError
    assert paused_queues() == []


@pytest.mark.parametrize("name", ["", "q" * 101, None, 5])
def test_what_can_be_no_queue_is_refused(name):
    with pytest.raises(DBQError, match="a queue's name is text of 1 to 100 characters, not "):
        pause_queue(name)
    assert paused_queues() == []


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    pause_queue("a", "jobs")
    assert (paused_queues(), paused_queues("jobs")) == ([], ["a"])
    assert said("resume_queue", "a", "--database", "jobs") == 'Queue "a" goes on'
    said("pause_queue", "b", "--database", "jobs")
    assert (paused_queues(), paused_queues("jobs")) == ([], ["b"])


def test_the_commands_pause_and_resume():
    assert said("pause_queue", "a") == 'Queue "a" is paused'
    assert said("pause_queue", "a") == 'Queue "a" was paused already'
    assert paused_queues() == ["a"]
    assert said("resume_queue", "a") == 'Queue "a" goes on'
    assert paused_queues() == []


def warned(*args):
    """What pause_queue says on standard error."""
    told = StringIO()
    call_command("pause_queue", *args, stdout=StringIO(), stderr=told)
    return told.getvalue().strip()


def test_a_queue_that_nobody_knows_is_paused_with_a_warning_that_names_the_nearest(settings):
    settings.JOBS = {"order": {"tasks": ["tests.workflows.nothing"], "queue_name": "orders"}}
    assert warned("ordres") == (
        'No job waits in queue "ordres", no worker serves it, and JOBS does not name it.'
        ' Did you mean "orders"? To undo it: resume_queue ordres'
    )
    assert warned("xyz").endswith("JOBS does not name it. To undo it: resume_queue xyz")
    assert paused_queues() == ["ordres", "xyz"]


def test_a_queue_that_somebody_knows_is_paused_without_a_word(settings):
    settings.JOBS = {"order": {"tasks": ["tests.workflows.nothing"], "queue_name": "orders"}}
    Job.objects.create(name="order", queue_name="waits")
    now = timezone.now()
    columns = {"host": "h", "pid": 1, "threads": 1, "started": now, "seen": now}
    WorkerProcess.objects.create(name="one", queue_names=["served", "mail"], **columns)
    assert [warned(name) for name in ("orders", "waits", "served", "mail")] == [""] * 4


def test_a_queue_is_paused_whatever_is_at_fault_in_the_settings(settings):
    settings.JOBS = 5
    assert "no worker serves it" in warned("a")
    assert paused_queues() == ["a"]


def test_the_commands_say_what_was_wrong():
    pause_queue("reports")
    with pytest.raises(CommandError, match='Queue "report" is not paused; those that are: "reports"'):
        said("resume_queue", "report")
    with pytest.raises(CommandError, match="a queue's name is text of 1 to 100 characters"):
        said("pause_queue", "q" * 101)


@pytest.mark.django_db(transaction=True)
def test_flush_queue_leaves_a_paused_queue_out():
    kept, run = Job.objects.create(name="nothing", queue_name="a"), Job.objects.create(name="nothing")
    pause_queue("a")
    assert said("flush_queue") == "Executed 1 of 1 due jobs"
    assert {job.state for job in (Job.objects.get(pk=kept.pk),)} == {"NEW"}
    assert Job.objects.get(pk=run.pk).state == "COMPLETE"
