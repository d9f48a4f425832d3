"""manage.py create_job: parse, then one call."""

from __future__ import annotations

import datetime
import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from django_dbq.exceptions import DBQError
from django_dbq.management.command import JobsCommand
from django_dbq.models import Job
from django_dbq.models.times import aware, stored


class Command(JobsCommand):
    help = "Create a job, for debugging, and print its id."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", nargs="?", help="a name in JOBS")
        parser.add_argument("--queue_name", "--queue-name", help="the queue it waits under")
        parser.add_argument("--workspace", metavar="JSON", help="a JSON object")
        parser.add_argument("--priority", type=int, help="higher runs earlier")
        parser.add_argument(
            "--run_after", "--run-after", metavar="TIME", help="not before this ISO 8601 time"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["name"]:
            raise CommandError("Which job? Give a name that JOBS has.")
        values: dict[str, Any] = {"name": options["name"], "workspace": _workspace(options["workspace"])}
        if options["queue_name"]:
            values["queue_name"] = options["queue_name"]
        if options["priority"] is not None:
            values["priority"] = options["priority"]
        if options["run_after"]:
            values["run_after"] = _time(options["run_after"])
        try:
            job = Job.objects.using(options["database"]).create(**values)
        except DBQError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(str(job.id))


def _workspace(text: str | None) -> Any:
    if text is None:
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"--workspace is not JSON: {error}") from error


def _time(text: str) -> datetime.datetime:
    try:
        moment = parse_datetime(text)
        if moment is not None:
            return stored(aware(moment).astimezone(datetime.UTC))
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--run_after {text!r}: {error}") from error
    raise CommandError(f"--run_after {text!r} is not an ISO 8601 time such as 2026-01-31T18:00:00Z")
