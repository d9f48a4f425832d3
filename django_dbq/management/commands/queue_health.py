"""manage.py queue_health: parse, then one call."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from django_dbq.compat.django_async import ALGORITHMS, health
from django_dbq.management.command import JobsCommand


class Command(JobsCommand):
    help = "Print how the queue does, as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--algorithm",
            "-a",
            choices=ALGORITHMS,
            default=ALGORITHMS[0],
            help=f"how its completion is estimated ({ALGORITHMS[0]})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(health(options["algorithm"], options["database"]), indent=2))
