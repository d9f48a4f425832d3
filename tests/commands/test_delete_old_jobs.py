"""manage.py delete_old_jobs: finished jobs go, with their history."""

from __future__ import annotations

import datetime
from io import StringIO

import freezegun
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_dbq import Job, TaskRun
from django_dbq.store import base
from django_dbq.testing import run_jobs

pytestmark = pytest.mark.django_db


def said(*args, **options):
    out = StringIO()
    call_command("delete_old_jobs", *args, stdout=out, **options)
    return out.getvalue()


def create(hours, using="default", **values):
    with freezegun.freeze_time(timezone.now() - datetime.timedelta(hours=hours)):
        return Job.objects.using(using).create(name="nothing", **{"state": "COMPLETE", **values})


def test_a_day_is_kept_unless_told_otherwise():
    create(25)
    young = create(23)
    assert said() == "Deleted old jobs: 1\n"
    assert Job.objects.get() == young


def test_hours_may_be_given_and_zero_means_zero():
    create(3)
    create(1)
    assert said("--hours", "2") == "Deleted old jobs: 1\n"
    assert said(hours=0) == "Deleted old jobs: 1\n"
    assert said("--hours=0") == "Deleted old jobs: 0\n"


def test_what_is_not_finished_stays():
    for state in Job.STATES.values:
        create(48, state=state)
    create(48, state="STOPPING", claimed_by="worker", lease_until=timezone.now())
    said("--hours=0")
    assert sorted(Job.objects.values_list("state", flat=True)) == [
        "NEW",
        "PROCESSING",
        "READY",
        "STOPPING",
        "WAITING",
    ]


def test_the_history_goes_too():
    job = Job.objects.create(name="five")
    run_jobs()
    assert TaskRun.objects.filter(job=job).count() == 5
    said("--hours=0")
    assert not TaskRun.objects.exists()


def test_more_than_one_batch_is_deleted(monkeypatch):
    monkeypatch.setattr(base, "PRUNE_BATCH", 2)
    for _ in range(5):
        create(48)
    assert said() == "Deleted old jobs: 5\n"


def test_hours_are_a_whole_number():
    with pytest.raises(CommandError, match="invalid int value: 'many'"):
        said("--hours", "many")


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    create(48)
    create(48, using="jobs")
    create(48, using="jobs")
    assert said("--database", "jobs") == "Deleted old jobs: 2\n"
    assert Job.objects.count() == 1
