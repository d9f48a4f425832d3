"""manage.py resume_queue: parse, then one call."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_dbq.management.command import JobsCommand
from django_dbq.models import paused_queues, resume_queue


class Command(JobsCommand):
    help = "Let workers claim from a paused queue again."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the queue")

    def handle(self, *args: Any, **options: Any) -> None:
        name, using = options["name"], options["database"]
        if not resume_queue(name, using):
            others = ", ".join(f'"{queue}"' for queue in paused_queues(using)) or "none"
            raise CommandError(f'Queue "{name}" is not paused; those that are: {others}')
        self.stdout.write(f'Queue "{name}" goes on')
