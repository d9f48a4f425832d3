"""manage.py pause_queue: parse, then one call."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from django_dbq import conf
from django_dbq.exceptions import DBQError, SettingsError, nearest
from django_dbq.management.command import JobsCommand
from django_dbq.models import Job, WorkerProcess, pause_queue


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
        known = _known(options["database"] or router.db_for_write(Job))
        if name not in known:
            hint = nearest(name, known)
            self.stderr.write(
                f'No job waits in queue "{name}", no worker serves it, and JOBS does not name it.'
                + (f' Did you mean "{hint}"?' if hint else "")
                + f" To undo it: resume_queue {name}"
            )


def _known(using: str) -> set[str]:
    """Return the names of the queues that jobs, workers or JOBS have."""
    found = set(Job.get_queue_depths(using=using))
    for names in WorkerProcess.objects.using(using).values_list("queue_names", flat=True):
        found.update(names)
    with suppress(SettingsError):  # They keep nobody from pausing a queue.
        found.update(entry.queue_name for entry in conf.workflows().values())
    return found
