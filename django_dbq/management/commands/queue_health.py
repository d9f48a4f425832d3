"""manage.py queue_health: parse, then one call."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_dbq.compat.django_async import ALGORITHMS, health


class Command(BaseCommand):
    help = "Print how the queue does, as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--algorithm",
            "-a",
            choices=ALGORITHMS,
            default=ALGORITHMS[0],
            help=f"how its completion is estimated ({ALGORITHMS[0]})",
        )
        parser.add_argument("--database", help="the database that holds the jobs")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(health(options["algorithm"], options["database"]), indent=2))
