"""manage.py import_jobs: parse, look, and move if told to."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from django_dbq.compat.django_async_import import look, missing_tables, move
from django_dbq.exceptions import DBQError
from django_dbq.models import Job


class Command(BaseCommand):
    help = "Move the jobs that another package has left to run over to this one; without --apply, count them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", required=True, choices=["django_async"], help="whose jobs")
        parser.add_argument("--apply", action="store_true", help="move them; without it nothing is written")
        parser.add_argument("--database", help="the database that holds its tables, and the jobs")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Job)
        if missing := missing_tables(using):
            raise CommandError(
                f"The database {using!r} has no table {', '.join(missing)}. --database names the one where"
                " django-async keeps its jobs; those of this package have to be in the same."
            )
        found = look(using)
        self.stdout.write(f"To move from {options['from']}: jobs={found.by_function.total()}")
        for name, number in sorted(found.by_function.items()):
            self.stdout.write(f"  {name} {number}")
        self.stdout.write(f"groups={found.groups} earlier errors={found.errors} refused={len(found.refused)}")
        for why in found.refused:
            self.stderr.write(f"  {why}")
        if found.refused:
            raise CommandError(
                f"{len(found.refused)} cannot be moved, so nothing was written."
                " Mend them, or cancel them in their table, and run again."
            )
        if not options["apply"]:
            self.stdout.write("nothing was written; run again with --apply")
            return
        try:
            jobs, groups = move(using)
        except DBQError as error:
            raise CommandError(f"Nothing was written: {error}") from error
        self.stdout.write(f"Moved: jobs={jobs} groups={groups}; their rows in async_job are now cancelled")
