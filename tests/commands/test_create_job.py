"""manage.py create_job: a job from the command line."""

from __future__ import annotations

import datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from django_dbq import Job

pytestmark = pytest.mark.django_db


def created(*args, **options):
    out = StringIO()
    call_command("create_job", *args, stdout=out, **options)
    return Job.objects.using(options.get("database")).get(pk=out.getvalue().strip())


def test_it_prints_the_id():
    job = created("five")
    assert (job.name, job.workspace, job.queue_name, job.priority, job.run_after) == (
        "five",
        {},
        "default",
        0,
        None,
    )


def test_every_column_of_a_caller_may_be_given():
    job = created(
        "five",
        "--queue_name=reports",
        "--workspace",
        '{"a": [1, "ß"]}',
        "--priority=-3",
        "--run_after",
        "2026-01-31T18:00:00+02:00",
    )
    assert (job.queue_name, job.workspace, job.priority) == ("reports", {"a": [1, "ß"]}, -3)
    assert job.run_after == datetime.datetime(2026, 1, 31, 16, tzinfo=datetime.UTC)


def test_hyphens_and_calls_do_as_well():
    job = created("five", "--queue-name=a", "--run-after=2026-01-31T18:00:00Z")
    assert job.queue_name == "a" and job.run_after.hour == 18
    assert created(name="five", priority=0, queue_name="b").queue_name == "b"


def test_a_time_without_a_zone_is_that_of_the_project(settings):
    settings.TIME_ZONE = "Europe/Vienna"
    job = created("five", "--run_after=2026-01-31 18:00")
    assert job.run_after == datetime.datetime(2026, 1, 31, 17, tzinfo=datetime.UTC)


@pytest.mark.parametrize("given", ["2026-01-31T17:00:00Z", "2026-01-31 18:00"])
def test_a_time_is_taken_where_the_project_has_no_zones(settings, given):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    assert created("five", "--run_after", given).run_after == datetime.datetime(2026, 1, 31, 18)


def test_the_workflows_own_queue_and_priority_hold():
    job = created("other_queue")
    assert (job.queue_name, job.priority) == ("other", 3)
    assert created("other_queue", "--priority=0").priority == 0


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "Which job"),
        (["fife"], "JOBS has no job named 'fife'. Did you mean 'five'"),
        (["five", "--workspace", "{a: 1}"], "--workspace is not JSON: Expecting property name"),
        (["five", "--workspace", "[1]"], "workspace must be a dictionary .a JSON object., not list"),
        (["five", "--workspace", "1"], "workspace must be a dictionary .a JSON object., not int"),
        (["five", "--workspace", '{"a": NaN}'], r"workspace\['a'\]"),
        (["five", "--workspace", r'{"a": "\u0000"}'], r"workspace\['a'\]: holds a NUL"),
        (["five", "--run_after", "tomorrow"], "--run_after 'tomorrow' is not an ISO 8601 time"),
        (["five", "--run_after", "2026-02-31T00:00"], "--run_after '2026-02-31T00:00': day"),
        (["five", "--run_after", "0001-01-01T00:00+05:00"], "--run_after '0001-01-01T00:00.05:00': date"),
        (["five", "--priority", "high"], "invalid int value: 'high'"),
        (["five", "--priority", "40000"], "priority is a number from -32768 to 32767, not 40000"),
        (["five", "--queue_name", "q" * 101], "a queue's name is text of 1 to 100 characters, not 'qqq"),
    ],
)
def test_what_cannot_be_created_is_told(args, message):
    with pytest.raises(CommandError, match=message):
        created(*args)
    assert not Job.objects.exists()


def test_settings_at_fault_are_told(settings):
    settings.JOBS = {"five": 5}
    with pytest.raises(CommandError, match=r"JOBS\['five'\]: must be a list"):
        created("five")


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    assert created("five", database="jobs")._state.db == "jobs"
    assert not Job.objects.exists()
