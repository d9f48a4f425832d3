"""manage.py worker: parse, then one call."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from django_dbq.management.arguments import positive, seconds
from django_dbq.management.command import JobsCommand
from django_dbq.management.faults import show_faults
from django_dbq.management.logs import log_to_stderr
from django_dbq.management.memory import loaded_for_good
from django_dbq.models import Job
from django_dbq.worker.runner import Runner
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.supervisor import Supervisor


class Command(JobsCommand):
    help = "Run jobs from one or more queues."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("queue_name", nargs="*", default=["default"], help="queues to serve (default)")
        parser.add_argument("--processes", type=positive, default=1, help="worker processes to run")
        parser.add_argument("--threads", type=positive, default=1, help="tasks at once in each process")
        parser.add_argument("--burst", action="store_true", help="run what is due, then exit")
        parser.add_argument("--max-jobs", type=positive, help="exit (be replaced) after this many jobs")
        parser.add_argument("--max-rss", type=positive, metavar="MB", help="as --max-jobs, over this size")
        parser.add_argument(
            "--grace",
            type=seconds,
            metavar="SECONDS",
            help="when asked to stop, give running tasks back after this time (default: let them finish)",
        )
        parser.add_argument("--reload", action="store_true", help="restart when code changes (development)")
        parser.add_argument(
            "--rate_limit",
            "--rate-limit",
            nargs="?",
            type=seconds,
            default=0.0,
            const=1.0,
            metavar="SECONDS",
            help="start at most one task in this many seconds",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="check the settings, name the queues, and exit"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["queue_name"]
        settings = WorkerSettings(
            using=options["database"] or router.db_for_write(Job),
            queue_names=(names,) if isinstance(names, str) else tuple(dict.fromkeys(names)),
            threads=options["threads"],
            burst=options["burst"],
            max_jobs=options["max_jobs"],
            rate_limit_seconds=options["rate_limit"] or 0.0,
            grace_seconds=options["grace"],
            rss_bytes_max=options["max_rss"] and options["max_rss"] * 1_000_000,
        )
        faults = [message for message in show_faults(self) if message.is_serious()]
        for name in settings.queue_names:
            if "," in name:
                several = " ".join(name.replace(",", " ").split())
                self.stderr.write(f'This serves one queue, "{name}". For several: worker {several}')
        queues = ", ".join(f'"{name}"' for name in settings.queue_names)
        limit = f" with at most one task in {settings.rate_limit_seconds:g} s"
        self.stdout.write(
            f"Starting job worker for queue{'s' if len(settings.queue_names) > 1 else ''} {queues}"
            + (limit if settings.rate_limit_seconds else "")
        )
        if options["dry_run"]:
            if faults:
                raise CommandError(f"Faults of the settings: {len(faults)}, named above.")
            return
        log_to_stderr()
        if options["reload"]:
            return self._run_reloading(settings)
        with loaded_for_good():
            if options["processes"] > 1:
                _exit(Supervisor(settings, options["processes"]).run())
            else:
                _exit(Runner(settings).run())

    def _run_reloading(self, settings: WorkerSettings) -> None:
        import atexit

        from django.utils import autoreload

        def work() -> None:
            runner = Runner(settings)
            atexit.register(runner.give_back)
            runner.run()

        autoreload.run_with_reloader(work)


def _exit(code: int) -> None:
    if code:
        raise SystemExit(code)
