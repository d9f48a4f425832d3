"""manage.py queue_depth: parse, then one call."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_dbq.management.command import JobsCommand
from django_dbq.models import Job


class Command(JobsCommand):
    help = "Print how many jobs wait in the given queues."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("queue_name", nargs="*", default=["default"], help="queues to count (default)")
        parser.add_argument(
            "--exclude_future_jobs",
            "--exclude-future-jobs",
            nargs="?",
            type=_flag,
            default=False,
            const=True,
            help="leave out jobs whose run_after is ahead",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        depths = Job.get_queue_depths(
            exclude_future_jobs=options["exclude_future_jobs"], using=options["database"]
        )
        names = options["queue_name"]
        names = [names] if isinstance(names, str) else names
        self.stdout.write(
            " ".join(["event=queue_depths", *(f"{name}={depths.get(name, 0)}" for name in names)])
        )


def _flag(text: str) -> bool:
    return text.lower() not in ("", "0", "false", "no")
