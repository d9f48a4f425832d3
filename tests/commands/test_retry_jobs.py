"""manage.py retry_jobs: which jobs it takes, and what it says."""

from __future__ import annotations

import datetime
import uuid
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_dbq import Job

pytestmark = pytest.mark.django_db

FIRST, SECOND = "tests.workflows.nothing", "tests.workflows.count"


def retry_jobs(*args):
    out = StringIO()
    call_command("retry_jobs", *(str(arg) for arg in args), stdout=out)
    return out.getvalue().strip()


def ended(state="FAILED", name="nothing_then_count", alias="default", hours=0, **columns):
    """A job that ended at its second task, `hours` ago."""
    values = {"next_task": SECOND, "position": 1, "attempt": 3, "finished": timezone.now(), **columns}
    values["modified"] = timezone.now() - datetime.timedelta(hours=hours)
    job = Job.objects.using(alias).create(name=name, queue_name=values.pop("queue_name", "default"))
    Job.objects.using(alias).filter(pk=job.pk).update(state=state, **values)
    return job


def left(state="PROCESSING", **columns):
    """A job as a worker of the original package leaves it when it is killed."""
    return ended(state, finished=None, **columns)


def states(*jobs):
    return [Job.objects.values_list("state", flat=True).get(pk=job.pk) for job in jobs]


def test_without_ids_failed_jobs_are_retried():
    failed, others = [ended(), ended()], [ended("COMPLETE"), ended("CANCELLED")]
    running = left()
    assert retry_jobs() == "Retried jobs: 2"
    assert states(*failed, *others, running) == ["READY", "READY", "COMPLETE", "CANCELLED", "PROCESSING"]
    row = Job.objects.get(pk=failed[0].pk)
    assert (row.next_task, row.position, row.attempt, row.finished) == (SECOND, 1, 0, None)


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED", "CANCELLED"])
def test_ids_name_jobs_in_any_state_that_is_an_end(state):
    job, other = ended(state), ended(state)
    assert retry_jobs(job.pk) == "Retried jobs: 1"
    assert states(job, other) == ["READY", state]


def test_several_ids_and_one_that_is_not_there():
    jobs = [ended(), ended("CANCELLED")]
    assert retry_jobs(*(job.pk for job in jobs), uuid.uuid4()) == "Retried jobs: 2"
    assert states(*jobs) == ["READY", "READY"]


def test_a_job_that_has_not_ended_is_left_alone_even_when_it_is_named():
    job = left()
    assert retry_jobs(job.pk) == "Retried jobs: 0"
    assert states(job) == ["PROCESSING"]


def test_a_state_may_be_chosen():
    cancelled, failed = ended("CANCELLED"), ended()
    assert retry_jobs("--state", "CANCELLED") == "Retried jobs: 1"
    assert states(cancelled, failed) == ["READY", "FAILED"]


def test_a_state_narrows_the_ids_down():
    cancelled, failed = ended("CANCELLED"), ended()
    assert retry_jobs(cancelled.pk, failed.pk, "--state", "FAILED") == "Retried jobs: 1"
    assert states(cancelled, failed) == ["CANCELLED", "READY"]


def test_a_name_and_a_queue_may_be_chosen():
    job, name, queue = ended(queue_name="a"), ended(name="five", queue_name="a"), ended(queue_name="b")
    assert retry_jobs("--name", "nothing_then_count", "--queue", "a") == "Retried jobs: 1"
    assert states(job, name, queue) == ["READY", "FAILED", "FAILED"]


def test_jobs_may_begin_at_their_first_task():
    job = ended()
    assert retry_jobs("--from-start") == "Retried jobs: 1"
    row = Job.objects.get(pk=job.pk)
    assert (row.next_task, row.position) == (FIRST, 0)


def test_hours_leave_out_what_was_touched_since():
    old, new = ended(hours=3), ended(hours=1)
    assert retry_jobs("--hours", "2") == "Retried jobs: 1"
    assert states(old, new) == ["READY", "FAILED"]


@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING"])
def test_what_a_worker_of_the_original_left_is_taken_over(state):
    old, new, failed = left(state, hours=3), left(state, hours=1), ended(hours=3)
    assert retry_jobs("--stuck", "--hours", "2") == "Retried jobs: 1"
    assert states(old, new, failed) == ["READY", state, "FAILED"]


def test_a_job_that_a_worker_holds_is_never_stuck():
    lease = {"claimed_by": "host:1:abc", "lease_until": timezone.now()}
    job = left(hours=9, claim=1, **lease)
    assert retry_jobs("--stuck", "--hours", "1", "--dry-run") == "Would retry jobs: 0"
    assert retry_jobs("--stuck", "--hours", "1") == "Retried jobs: 0"
    assert states(job) == ["PROCESSING"]


def test_a_dry_run_says_how_many_and_changes_nothing():
    jobs = [ended(), ended()]
    assert retry_jobs("--dry-run") == "Would retry jobs: 2"
    assert states(*jobs) == ["FAILED", "FAILED"]


def test_more_than_one_batch_is_retried(monkeypatch):
    monkeypatch.setattr("django_dbq.management.choice.BATCH", 2)
    jobs = [ended() for _ in range(5)]
    assert retry_jobs() == "Retried jobs: 5"
    assert set(states(*jobs)) == {"READY"}


@pytest.mark.parametrize(
    "args, message",
    [
        (["--stuck"], "--stuck needs --hours N"),
        (["--stuck", "--hours", "1", "--state", "FAILED"], "no --state"),
        (["--state", "READY"], "invalid choice: 'READY'"),
        (["not-an-id"], "invalid UUID value: 'not-an-id'"),
        (["--hours", "soon"], "must be a number of hours from 0 to 876600, not 'soon'"),
        (["--hours", "nan"], "--hours"),
        (["--hours", "-1"], "--hours"),
        (["--hours", "inf"], "--hours"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_changes(args, message):
    jobs = [ended(), left(hours=9)]
    with pytest.raises(CommandError, match=message):
        retry_jobs(*args)
    assert states(*jobs) == ["FAILED", "PROCESSING"]


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    here, there = ended(), ended(alias="jobs")
    assert retry_jobs("--database", "jobs") == "Retried jobs: 1"
    assert states(here) == ["FAILED"]
    assert Job.objects.using("jobs").get(pk=there.pk).state == "READY"


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_workers_are_woken(manage, tmp_path):
    from tests.worker.conftest import ASLEEP, Bench

    bench = Bench(manage, "default", tmp_path)
    job = ended()
    bench.wait_until_idle(bench.worker(dbq=ASLEEP))
    retry_jobs()
    bench.wait_for(job)
