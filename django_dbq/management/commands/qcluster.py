"""manage.py qcluster: read Q_CLUSTER, then what `worker` does with one process for each CPU."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from django_dbq.compat.django_q_settings import NAME_VARIABLE, SAVE_LIMIT_PER, cluster
from django_dbq.exceptions import SettingsError
from django_dbq.management.command import JobsCommand
from django_dbq.management.faults import show_faults
from django_dbq.management.logs import log_to_stderr
from django_dbq.management.memory import loaded_for_good
from django_dbq.models import Job
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.supervisor import Supervisor


class Command(JobsCommand):
    help = "Run the workers that Q_CLUSTER describes: one process for each CPU, unless it says how many."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--name", "-n", help="the cluster, by its name in ALT_CLUSTERS or that of its queue"
        )
        parser.add_argument("--run-once", action="store_true", help="run what is due, then exit")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = cluster(options["name"])
        except SettingsError as error:
            raise CommandError(f"The cluster does not start; settings are at fault:\n{error}") from error
        show_faults(self)
        # For what its tasks call: their calls go to this cluster's queue, unless they name one.
        os.environ[NAME_VARIABLE] = found.name
        once = options["run_once"]
        settings = WorkerSettings(
            using=options["database"] or router.db_for_write(Job),
            queue_names=(found.name,),
            burst=once,
            max_jobs=None if once else found.recycle,  # Else it would leave before it is done.
            rss_bytes_max=found.max_rss and found.max_rss * 1024,
            save_limit=max(0, found.save_limit or 0),
            save_limit_per=SAVE_LIMIT_PER[found.save_limit_per],
        )
        processes = found.workers or cpus()
        many = f"{processes} process{'' if processes == 1 else 'es'}"
        self.stdout.write(f'Starting cluster "{found.name}" with {many}')
        self.stdout.flush()
        log_to_stderr()
        with loaded_for_good():
            code = Supervisor(settings, processes).run()
        if code:
            raise SystemExit(code)


def cpus() -> int:
    """Return how many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not every system has it.
        return os.cpu_count() or 1
