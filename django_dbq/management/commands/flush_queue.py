"""manage.py flush_queue: parse, choose what is due, then one call."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from django_dbq.compat.django_async import due_jobs
from django_dbq.management.arguments import positive
from django_dbq.management.command import JobsCommand
from django_dbq.management.faults import show_faults
from django_dbq.management.logs import log_to_stderr
from django_dbq.models import Job
from django_dbq.redaction import redact_text
from django_dbq.store import get_store
from django_dbq.worker.runner import Runner
from django_dbq.worker.settings import WorkerSettings

JOBS = 300


class Command(JobsCommand):
    help = "Make one pass over the jobs that are due now; exit with 1 at the first that fails."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
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

    def handle(self, *args: Any, **options: Any) -> None:
        show_faults(self)
        using = options["database"] or router.db_for_write(Job)
        jobs, which, outof = (_whole(name, options[name]) for name in ("jobs", "which", "outof"))
        get_store(using).wake()  # Where no worker runs, nobody else does it.
        chosen = due_jobs(
            jobs,
            which=which,
            outof=outof,
            prefix=options["filter"],
            queue_name=options["queue"],
            using=using,
        )
        log_to_stderr()
        settings = WorkerSettings(using=using, queue_names=(), job_ids=tuple(chosen), stop_at_failure=True)
        runner = Runner(settings)
        code = runner.run()  # With nothing chosen too: it takes back what a killed pass has left.
        if runner.failure is not None:
            job, transition = runner.failure.job, runner.failure.transition
            why = redact_text(transition.error or transition.outcome)
            raise CommandError(f"Stopped at job {job.id} ({job.name}): {why}")
        if code:
            raise CommandError("The pass could not go on; the log says why.")
        self.stdout.write(f"Executed {runner.jobs_begun} of {len(chosen)} due jobs")


def _whole(name: str, value: Any) -> int:
    """Return a number that `call_command` was given, which it passes on unread."""
    try:
        return int(value) if name == "which" else positive(str(value))
    except (ArgumentTypeError, TypeError, ValueError):
        least = "" if name == "which" else " from 1 on"
        raise CommandError(f"--{name} must be a whole number{least}, not {value!r}") from None
