"""manage.py delete_old_jobs: parse, then one call. Fit for cron: bounded batches, no long lock."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router
from django.utils import timezone

from django_dbq.engine.lifecycle import FINISHED_STATES
from django_dbq.management.arguments import age, positive
from django_dbq.management.command import JobsCommand
from django_dbq.models import DEFAULT_DELETE_JOBS_AFTER_HOURS, Job
from django_dbq.store import get_store
from django_dbq.store.pruning import PRUNE_BATCH, PRUNED_STATES


class Command(JobsCommand):
    help = "Delete finished jobs, with their history, and the groups that have none left."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        hours = DEFAULT_DELETE_JOBS_AFTER_HOURS
        parser.add_argument(
            "--hours", type=age, help=f"only those created more than this many hours ago ({hours})"
        )
        parser.add_argument("--days", type=age, help="the same in days")
        parser.add_argument(
            "--state",
            action="append",
            choices=[str(state) for state in FINISHED_STATES],
            help="only those in this state; may be given several times (default: all finished)",
        )
        parser.add_argument(
            "--batch", type=positive, help=f"delete this many in one transaction ({PRUNE_BATCH})"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        hours, days = options["hours"], options["days"]
        if hours is not None and days is not None:
            raise CommandError("--hours and --days say the same thing twice; give one of them")
        if hours is None:
            hours = DEFAULT_DELETE_JOBS_AFTER_HOURS if days is None else 24 * days
        gone = get_store(options["database"] or router.db_for_write(Job)).prune(
            timezone.now() - datetime.timedelta(hours=hours),
            states=options["state"] or PRUNED_STATES,
            limit=options["batch"],
        )
        self.stdout.write(f"Deleted old jobs: {gone.jobs.total()}{_by_state(gone.jobs)}")
        if gone.groups:
            self.stdout.write(f"Deleted groups: {gone.groups}")


def _by_state(jobs: Counter[str]) -> str:
    return f" ({', '.join(f'{state} {number}' for state, number in sorted(jobs.items()))})" if jobs else ""
