"""manage.py queue_health: what health() returns, as JSON."""

from __future__ import annotations

import datetime
import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_dbq import Job, TaskRun, health

pytestmark = pytest.mark.django_db


def said(*args):
    out = StringIO()
    call_command("queue_health", *args, stdout=out)
    return out.getvalue()


def history():
    """One task has always been quick, another slow; only quick ones wait."""
    for name, seconds in (("nothing", 1), ("boom", 99)):
        job = Job.objects.create(name=name, state="COMPLETE")
        end = timezone.now()
        TaskRun.objects.create(
            job=job,
            claim=1,
            task=f"tests.workflows.{name}",
            position=0,
            attempt=1,
            worker="one",
            started=end - datetime.timedelta(seconds=seconds),
            finished=end,
            outcome="done",
        )
    Job.objects.create(name="nothing", state="READY", run_after=timezone.now() + datetime.timedelta(hours=1))


def test_it_prints_health_as_indented_json():
    history()
    text = said()
    assert json.loads(text) == health()
    assert text.startswith('{\n  "queue": {\n')
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ((), 50),
        (("--algorithm", "rough"), 50),
        (("--algorithm", "precise"), 1),
        (("-a", "precise"), 1),
    ],
)
def test_the_algorithm_may_be_named(args, wanted):
    history()
    assert json.loads(said(*args))["queue"]["estimated-completion"] == wanted


def test_another_algorithm_is_refused():
    with pytest.raises(CommandError, match="invalid choice: 'exact'"):
        said("--algorithm=exact")


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    Job.objects.using("jobs").create(name="nothing")
    assert json.loads(said("--database=jobs"))["queue"]["all-jobs"] == 1
