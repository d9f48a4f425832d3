"""manage.py monitor: parse, then one call. `qmonitor` is the same command."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any, TextIO, cast

from django.core.management.base import CommandError, CommandParser
from django.db import router

from django_dbq import metrics
from django_dbq.management.command import JobsCommand
from django_dbq.models import Job


class Command(JobsCommand):
    help = "Show workers, queues and failures, as they are now."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--once", action="store_true", help="print one picture, and exit")
        parser.add_argument("--json", action="store_true", help="print one JSON document, and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Job)
        if options["json"]:
            self.stdout.write(json.dumps(_document(metrics.overview(using)), indent=2))
            return
        try:
            from rich.console import Console

            from django_dbq.management import monitor
        except ImportError as error:
            raise CommandError(
                f"The view cannot be drawn ({error}). It needs rich: pip install django-db-queue[monitor]."
                " With --json nothing is needed."
            ) from error
        if not options["once"] and self.stdout.isatty() and sys.stdin.isatty():
            monitor.watch(using, sys.stdout)
            return
        found = metrics.overview(using)
        console = Console(file=cast(TextIO, self.stdout))
        console.print(
            monitor.frame(monitor.Reading(found, monitor.Rates().read(found.workers)), console.width)
        )


def _document(found: metrics.Overview) -> dict[str, Any]:
    document = dataclasses.asdict(found)
    document["now"] = found.now.isoformat()
    for worker, values in zip(found.workers, document["workers"], strict=True):
        values["tasks_per_second"] = worker.tasks_per_second()
    return document
