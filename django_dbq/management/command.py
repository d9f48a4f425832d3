"""What the commands share: the database of the jobs, and how they say that it is not there."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, ProgrammingError, connections, router

from django_dbq.exceptions import SettingsError
from django_dbq.models import Job
from django_dbq.store.drivers import is_missing


class JobsCommand(BaseCommand):
    """A command that takes `--database`. A database that cannot be used is one line, not a traceback.

    While a deploy is broken, a queue has to be paused and jobs retried all the same: it does not run the
    system checks, which are there to stop the deploy.
    """

    requires_system_checks = ()  # Those that run jobs show what `check` would say: see show_faults.

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", help="the database that holds the jobs")
        parser.add_argument("--skip-checks", action="store_true", help=SUPPRESS)  # As Django's own take it.

    def execute(self, *args: Any, **options: Any) -> str | None:
        using = options.get("database") or router.db_for_write(Job)
        if using not in connections:
            raise CommandError(f"--database {using}: DATABASES has {', '.join(connections)}")
        try:
            return super().execute(*args, **options)
        except SettingsError as error:
            raise CommandError(f"Settings are at fault:\n{error}") from error
        except (InterfaceError, OperationalError, ProgrammingError) as error:
            reason = str(error).strip()
            if is_missing(error):
                raise CommandError(f"Run manage.py migrate: on {using!r}, {reason}") from error
            if isinstance(error, ProgrammingError):
                raise
            raise CommandError(f"The database {using!r} does not answer: {reason}") from error
