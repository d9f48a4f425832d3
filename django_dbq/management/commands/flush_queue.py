"""manage.py flush_queue: parse, choose what is due, then one call."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from django_dbq.compat.django_async import due_jobs
from django_dbq.management.arguments import positive
from django_dbq.management.logs import log_to_stderr
from django_dbq.models import Job
from django_dbq.worker.runner import Runner
from django_dbq.worker.settings import WorkerSettings

JOBS = 300


class Command(BaseCommand):
    help = "Make one pass over the jobs that are due now; exit with 1 at the first that fails."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--jobs", "-j", type=positive, default=JOBS, help=f"run at most this many ({JOBS})"
        )
        parser.add_argument("--which", "-w", type=int, default=0, help="the part of the queue to run (0)")
        parser.add_argument(
            "--outof", "-o", type=positive, default=1, help="into how many parts it falls (1)"
        )
        parser.add_argument(
            "--filter", "-f", default="", metavar="PREFIX", help="what their names begin with"
        )
        parser.add_argument("--queue", metavar="NAME", help="the queue they wait under (default: any)")
        parser.add_argument("--database", help="the database that holds the jobs")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Job)
        chosen = due_jobs(
            options["jobs"],
            which=options["which"],
            outof=options["outof"],
            prefix=options["filter"],
            queue_name=options["queue"],
            using=using,
        )
        log_to_stderr()
        settings = WorkerSettings(using=using, queue_names=(), job_ids=tuple(chosen), stop_at_failure=True)
        runner = Runner(settings)
        code = runner.run() if chosen else 0
        self.stdout.write(f"Executed {runner.jobs_begun} of {len(chosen)} due jobs")
        if code:
            raise CommandError(
                "A job failed, or the pass could not go on; the log says which and why.", returncode=code
            )
