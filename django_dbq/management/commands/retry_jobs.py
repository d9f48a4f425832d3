"""manage.py retry_jobs: parse, then one call a batch."""

from __future__ import annotations

import datetime
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router
from django.utils import timezone

from django_dbq.engine.lifecycle import FINISHED_STATES, HELD_STATES, State
from django_dbq.exceptions import DELAY_SECONDS_MAX
from django_dbq.management.choice import add_choice, batches, chosen
from django_dbq.management.command import JobsCommand
from django_dbq.models import Job
from django_dbq.store import get_store

HOURS_MAX = DELAY_SECONDS_MAX / 3_600


class Command(JobsCommand):
    help = "Run finished jobs again, from the task they ended at."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_choice(parser, FINISHED_STATES, "jobs in this state (FAILED, where no id is given)")
        parser.add_argument("--from-start", action="store_true", help="begin at the first task")
        parser.add_argument(
            "--stuck",
            action="store_true",
            help="jobs that a worker of the original package left PROCESSING or STOPPING (needs --hours)",
        )
        parser.add_argument("--hours", type=_hours, help="only those that nobody touched for this long")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Job)
        jobs = chosen(using, options)
        if options["stuck"]:
            if options["hours"] is None or options["state"]:
                raise CommandError(
                    "--stuck needs --hours N, and no --state: which have been left long enough?"
                )
            jobs = jobs.filter(state__in=HELD_STATES, claimed_by__isnull=True)
        elif options["state"] or not options["id"]:
            jobs = jobs.filter(state=options["state"] or State.FAILED)
        else:
            jobs = jobs.filter(state__in=FINISHED_STATES)
        if options["hours"] is not None:
            jobs = jobs.filter(modified__lt=timezone.now() - datetime.timedelta(hours=options["hours"]))
        found = list(jobs.values_list("id", "queue_name"))
        ids, queue_names = [pk for pk, _ in found], {queue_name for _, queue_name in found}
        if options["dry_run"]:
            self.stdout.write(f"Would retry jobs: {len(ids)}")
            return
        retried = sum(
            len(get_store(using).retry(batch, from_start=options["from_start"], stuck=options["stuck"]))
            for batch in batches(ids)
        )
        if retried:
            get_store(using).announce(queue_names)
        self.stdout.write(f"Retried jobs: {retried}")


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours <= HOURS_MAX:
        raise ArgumentTypeError(f"must be a number of hours from 0 to {HOURS_MAX:g}, not {text!r}")
    return hours
