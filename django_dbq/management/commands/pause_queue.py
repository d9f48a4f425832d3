"""manage.py pause_queue: parse, then one call."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_dbq.exceptions import DBQError
from django_dbq.management.command import JobsCommand
from django_dbq.models import pause_queue


class Command(JobsCommand):
    help = "Pause a queue: workers claim nothing from it until it is resumed."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the queue")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        try:
            paused = pause_queue(name, options["database"])
        except DBQError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f'Queue "{name}" is paused' if paused else f'Queue "{name}" was paused already')
