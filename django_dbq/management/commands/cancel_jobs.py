"""manage.py cancel_jobs: parse, then one call a batch."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from django_dbq.engine.lifecycle import UNFINISHED_STATES, State
from django_dbq.management.choice import add_choice, batches, chosen
from django_dbq.management.command import JobsCommand
from django_dbq.models import Job
from django_dbq.store import get_store


class Command(JobsCommand):
    help = "Cancel jobs that have not finished: those that wait at once, those that run once their task ends."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_choice(parser, UNFINISHED_STATES, "jobs in this state (default: all that have not finished)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not any(options[name] for name in ("id", "state", "name", "queue")):
            raise CommandError("Which jobs? Give ids, --name, --queue or --state.")
        using = options["database"] or router.db_for_write(Job)
        states = [options["state"]] if options["state"] else UNFINISHED_STATES
        ids = list(chosen(using, options).filter(state__in=states).values_list("id", flat=True))
        if options["dry_run"]:
            self.stdout.write(f"Would cancel jobs: {len(ids)}")
            return
        found = [state for batch in batches(ids) for state in get_store(using).cancel(batch).values()]
        cancelled = found.count(State.CANCELLED)
        self.stdout.write(f"Cancelled jobs: {cancelled}")
        if running := len(found) - cancelled:
            self.stdout.write(f"Cancelled once their present task ends: {running}")
