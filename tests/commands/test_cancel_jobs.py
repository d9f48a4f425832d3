"""manage.py cancel_jobs: which jobs it takes, and what it says."""

from __future__ import annotations

import uuid
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_dbq import Job

pytestmark = pytest.mark.django_db

STATES = ["NEW", "READY", "WAITING", "PROCESSING", "STOPPING", "COMPLETE", "FAILED"]


def cancel_jobs(*args):
    out = StringIO()
    call_command("cancel_jobs", *(str(arg) for arg in args), stdout=out)
    return out.getvalue().strip()


def a_job(state="READY", alias="default", name="five", queue_name="default"):
    job = Job.objects.using(alias).create(name=name, queue_name=queue_name)
    held = state in ("PROCESSING", "STOPPING")
    lease = {"claim": 1, "claimed_by": "w", "lease_until": timezone.now()} if held else {}
    Job.objects.using(alias).filter(pk=job.pk).update(state=state, **lease)
    return job


def states(*jobs):
    return [Job.objects.values_list("state", flat=True).get(pk=job.pk) for job in jobs]


def test_what_waits_is_cancelled_what_runs_is_asked_to_stop_and_what_has_ended_is_left_alone():
    jobs = [a_job(state) for state in STATES]
    assert cancel_jobs("--name", "five").splitlines() == [
        "Cancelled jobs: 3",
        "Cancelled once their present task ends: 2",
    ]
    assert states(*jobs) == ["CANCELLED"] * 3 + STATES[3:]
    asked = Job.objects.filter(cancel_requested=True).values_list("state", flat=True)
    assert {*asked} == {"PROCESSING", "STOPPING"}


def test_ids_name_jobs_and_one_may_not_be_there():
    job, other, ended = a_job(), a_job(), a_job("FAILED")
    assert cancel_jobs(job.pk, ended.pk, uuid.uuid4()) == "Cancelled jobs: 1"
    assert states(job, other, ended) == ["CANCELLED", "READY", "FAILED"]


def test_a_name_a_queue_and_a_state_add_up():
    job = a_job(queue_name="a")
    others = [a_job(name="nothing", queue_name="a"), a_job(queue_name="b"), a_job("NEW", queue_name="a")]
    assert cancel_jobs("--name", "five", "--queue", "a", "--state", "READY") == "Cancelled jobs: 1"
    assert states(job, *others) == ["CANCELLED", "READY", "READY", "NEW"]


def test_a_queue_or_a_state_alone_will_do():
    jobs = [a_job(queue_name="a"), a_job("WAITING", queue_name="b")]
    assert cancel_jobs("--queue", "a") == "Cancelled jobs: 1"
    assert states(*jobs) == ["CANCELLED", "WAITING"]
    assert cancel_jobs("--state", "WAITING") == "Cancelled jobs: 1"
    assert states(*jobs) == ["CANCELLED", "CANCELLED"]


@pytest.mark.parametrize("way", [[], ["--dry-run"]])
def test_without_a_condition_nothing_is_cancelled(way):
    job = a_job()
    with pytest.raises(CommandError, match="Which jobs"):
        cancel_jobs(*way)
    assert states(job) == ["READY"]


def test_a_dry_run_says_how_many_and_changes_nothing():
    jobs = [a_job(), a_job("PROCESSING"), a_job("COMPLETE")]
    assert cancel_jobs("--name", "five", "--dry-run") == "Would cancel jobs: 2"
    assert states(*jobs) == ["READY", "PROCESSING", "COMPLETE"]
    assert not Job.objects.filter(cancel_requested=True).exists()


def test_more_than_one_batch_is_cancelled(monkeypatch):
    monkeypatch.setattr("django_dbq.management.choice.BATCH", 2)
    jobs = [a_job() for _ in range(5)]
    assert cancel_jobs("--queue", "default") == "Cancelled jobs: 5"
    assert {*states(*jobs)} == {"CANCELLED"}


@pytest.mark.parametrize(
    "args, message",
    [
        (["--state", "FAILED"], "invalid choice: 'FAILED'"),
        (["not-an-id"], "invalid UUID value: 'not-an-id'"),
    ],
)
def test_what_makes_no_sense_is_refused(args, message):
    with pytest.raises(CommandError, match=message):
        cancel_jobs(*args)


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    here, there = a_job(), a_job(alias="jobs")
    assert cancel_jobs("--name", "five", "--database", "jobs") == "Cancelled jobs: 1"
    assert states(here) == ["READY"]
    assert Job.objects.using("jobs").get(pk=there.pk).state == "CANCELLED"
