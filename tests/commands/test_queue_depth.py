"""manage.py queue_depth: how many jobs wait."""

from __future__ import annotations

import datetime
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from django_dbq import Job

pytestmark = pytest.mark.django_db


def said(*args, **options):
    out = StringIO()
    call_command("queue_depth", *args, stdout=out, **options)
    return out.getvalue()


@pytest.fixture(autouse=True)
def jobs(db):
    later = timezone.now() + datetime.timedelta(hours=1)
    Job.objects.create(name="nothing")
    Job.objects.create(name="nothing", state="READY", run_after=later)
    Job.objects.create(name="nothing", queue_name="reports", priority=1)
    for state in set(Job.STATES.values) - {"NEW", "READY"}:
        Job.objects.create(name="nothing", state=state)


def test_the_line_is_that_of_the_original():
    assert said() == "event=queue_depths default=2\n"
    assert said("reports", "default", "other") == "event=queue_depths reports=1 default=2 other=0\n"


def test_a_queue_may_be_named_as_the_original_took_it():
    assert said(queue_name="reports") == "event=queue_depths reports=1\n"
    assert said(queue_name=("default", "other")) == "event=queue_depths default=2 other=0\n"


@pytest.mark.parametrize(
    "form", ["--exclude_future_jobs", "--exclude-future-jobs", "--exclude_future_jobs=True"]
)
def test_future_jobs_may_be_left_out(form):
    assert said("default", form) == "event=queue_depths default=1\n"


def test_future_jobs_may_be_left_out_in_a_call():
    assert said(exclude_future_jobs=True) == "event=queue_depths default=1\n"
    assert said("default", "--exclude_future_jobs=False") == "event=queue_depths default=2\n"


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    Job.objects.using("jobs").create(name="nothing", queue_name="reports")
    assert said("default", "reports", "--database=jobs") == "event=queue_depths default=0 reports=1\n"
