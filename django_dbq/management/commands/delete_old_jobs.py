"""manage.py delete_old_jobs: parse, then one call. Fit for cron: bounded batches, no long lock."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_dbq.models import Job


class Command(BaseCommand):
    help = "Delete finished jobs, with their history."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--hours", type=int, help="only those created more than this many hours ago (24)")
        parser.add_argument("--database", help="the database that holds the jobs")

    def handle(self, *args: Any, **options: Any) -> None:
        manager = Job.objects.db_manager(options["database"]) if options["database"] else Job.objects
        deleted = manager.delete_old(hours=options["hours"])
        self.stdout.write(f"Deleted old jobs: {deleted}")
