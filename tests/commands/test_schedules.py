"""manage.py schedules: a table of what is scheduled."""

from __future__ import annotations

import datetime
import re
from io import StringIO

import freezegun
import pytest
from django.core.management import call_command

from django_dbq import Schedule
from django_dbq.testing import run_jobs

pytestmark = pytest.mark.django_db

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def clock():
    with freezegun.freeze_time(NOON) as clock:
        yield clock


def table(*args):
    """Return the cells of each line; they stand in columns."""
    out = StringIO()
    call_command("schedules", *args, stdout=out)
    lines = out.getvalue().splitlines()
    begins = [match.start() for match in re.finditer(r"(?<!\S)(?<! )\S|(?<=  )\S", lines[0])]
    ends = [*begins[1:], None]
    return [[line[a:b].strip() for a, b in zip(begins, ends, strict=True)] for line in lines]


def a_schedule(**fields):
    return Schedule.objects.create(**{"path": "nothing", "kind": "daily", **fields})


def test_it_says_what_runs_when_and_how_it_went():
    a_schedule(name="nightly", kind="cron", cron="30 2 * * *", time_zone="Europe/Berlin")
    a_schedule(path="boom", kind="monthly", next_run=NOON)
    run_jobs()
    assert table() == [
        ["NAME", "RUNS", "WHEN", "TIME ZONE", "NEXT RUNS", "LAST RUN", "STATE"],
        [
            *("nightly", "nothing", "cron 30 2 * * *", "Europe/Berlin"),
            *("2026-01-02 02:30, 2026-01-03 02:30, 2026-01-04 02:30", "none", "enabled"),
        ],
        [
            *("boom", "boom", "every month on day 1, at 12:00", "UTC"),
            *("2026-02-01 12:00, 2026-03-01 12:00, 2026-04-01 12:00", "2026-01-01 12:00 FAILED", "enabled"),
        ],
    ]


def test_without_schedules_it_says_so():
    out = StringIO()
    call_command("schedules", stdout=out)
    assert out.getvalue() == "There are no schedules.\n"


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        ({"enabled": False}, "disabled"),
        ({"enabled": False, "error": "disabled after 5 failures: x\ny"}, "disabled after 5 failures: x y"),
        ({"failures": 2, "error": "ValueError: x"}, "failed 2 times: ValueError: x"),
    ],
)
def test_it_says_why_a_schedule_does_not_fire(columns, state):
    schedule = a_schedule()
    Schedule.objects.filter(pk=schedule.pk).update(**columns)
    assert table()[1][-1] == state


def test_a_row_that_cannot_be_read_is_listed_with_its_fault():
    schedule = a_schedule(kind="cron", cron="0 6 * * *")
    Schedule.objects.filter(pk=schedule.pk).update(cron="0 25 * * *")
    assert "column 3: '25' is no hour" in table()[1][2]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "once"}, "once, 2026-01-01 at 12:00"),
        ({"kind": "minutes", "minutes": 1}, "every minute"),
        ({"kind": "minutes", "minutes": 90}, "every 90 minutes"),
        ({"kind": "hourly"}, "every hour at minute 0"),
        ({"kind": "daily", "time_zone": "Asia/Tokyo"}, "every day at 21:00"),
        ({"kind": "weekly"}, "every Thursday at 12:00"),
        ({"kind": "biweekly"}, "every other Thursday at 12:00"),
        (
            {"kind": "monthly", "next_run": NOON.replace(day=31)},
            "every month on day 31, or the last, at 12:00",
        ),
        ({"kind": "quarterly"}, "every 3 months on day 1, at 12:00"),
        ({"kind": "yearly"}, "every year on 1 January at 12:00"),
    ],
)
def test_rules_are_in_words(fields, words):
    a_schedule(**fields)
    assert table()[1][2] == words


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    Schedule(path="nothing", kind="daily", name="there").save(using="jobs")
    assert table("--database=jobs")[1][0] == "there"


def test_a_secret_in_an_error_is_masked():
    made = a_schedule()
    Schedule.objects.filter(pk=made.pk).update(error="ValueError: password=hunter2", failures=2)
    assert table()[1][-1] == "failed 2 times: ValueError: password=********"
