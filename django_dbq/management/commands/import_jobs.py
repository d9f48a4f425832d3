"""manage.py import_jobs: parse, look, and move if told to."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from django_dbq.compat import django_async_import, django_q_import
from django_dbq.exceptions import DBQError
from django_dbq.management.command import JobsCommand
from django_dbq.models import Job

SOURCES: dict[str, Any] = {"django_async": django_async_import, "django_q": django_q_import}


class Command(JobsCommand):
    help = "Move what another package has left to run over to this one; without --apply, count it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--from", required=True, choices=[*SOURCES], help="whose")
        parser.add_argument("--apply", action="store_true", help="move it; without it nothing is written")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Job)
        source = SOURCES[options["from"]]
        if missing := source.missing_tables(using):
            raise CommandError(
                f"The database {using!r} has no table {', '.join(missing)}. --database names the one where"
                f" {options['from'].replace('_', '-')} keeps its jobs; those of this package have to be in"
                " the same."
            )
        found = source.look(using)
        first, *lines = found.lines()
        self.stdout.write("\n".join([f"To move from {options['from']}: {first}", *lines]))
        for why in found.refused:
            self.stderr.write(f"  {why}")
        if found.refused:
            raise CommandError(
                f"{len(found.refused)} cannot be moved, so nothing was written."
                f" Mend them, or {source.LEAVE_OUT}, and run again."
            )
        left, stays = found.left, "would not be taken, and would stay where it is"
        if options["apply"]:
            try:
                moved = source.move(using)
            except DBQError as error:
                raise CommandError(f"Nothing was written: {error}") from error
            self.stdout.write(f"Moved: {moved.text}")
            left, stays = moved.left, "was not taken, and stays where it is"
        else:
            self.stdout.write("nothing was written; run again with --apply")
        for why in left:
            self.stderr.write(f"  {why}")
        if left:
            raise CommandError(f"What is named above {stays}.")
