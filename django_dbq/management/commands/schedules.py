"""manage.py schedules: what is scheduled, and when it runs next."""

from __future__ import annotations

import datetime
from typing import Any

from django.db import router

from django_dbq.exceptions import ScheduleError
from django_dbq.management.command import JobsCommand
from django_dbq.models import Schedule
from django_dbq.redaction import redact_text

HEAD = ("NAME", "RUNS", "WHEN", "TIME ZONE", "NEXT RUNS", "LAST RUN", "STATE")
NEXT = 3


class Command(JobsCommand):
    help = "List schedules: what they run and when, their next three runs, and how the last one ended."

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Schedule)
        rows = [_row(schedule) for schedule in Schedule.objects.using(using).order_by("next_run", "id")]
        if not rows:
            self.stdout.write("There are no schedules.")
            return
        widths = [max(len(row[column]) for row in [HEAD, *rows]) for column in range(len(HEAD))]
        for row in [HEAD, *rows]:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def _row(schedule: Schedule) -> tuple[str, ...]:
    try:
        rule = str(schedule.rule())
        upcoming = ", ".join(_minute(slot) for slot in schedule.upcoming(NEXT))
        shown: Any = schedule.shown
    except ScheduleError as error:  # The row was changed by somebody.
        rule, upcoming, shown = str(error), "", lambda slot: slot
    last = schedule.last_slot()
    return (
        str(schedule),
        schedule.path,
        rule,
        schedule.zone_name,
        upcoming or "none",
        "none"
        if last is None
        else f"{_minute(shown(last.slot))} {last.job.state if last.job else ''}".rstrip(),
        _state(schedule),
    )


def _minute(slot: datetime.datetime) -> str:
    return f"{slot:%Y-%m-%d %H:%M}"


def _state(schedule: Schedule) -> str:
    """Say whether it is enabled, and what keeps it from firing."""
    error = redact_text(" ".join((schedule.error or "").split()))
    if not schedule.enabled:
        return error if error.startswith("disabled") else f"disabled {error}".rstrip()
    if schedule.failures:
        return f"failed {schedule.failures} times: {error}"
    return "enabled"
