"""django-db-queue 3 with the sleep before each task taken out."""

from __future__ import annotations

import sys

from benchmarks.contenders import django_db_queue

WORKER = (
    "import django; django.setup(); import django_dbq.management.commands.worker as worker;"
    " worker.sleep = lambda seconds: None;"
    " from django.core.management import execute_from_command_line as run;"
    " run(['manage.py', 'worker', 'default', '--rate_limit', '0'])"
)


class Bench(django_db_queue.Bench):
    settings = "its sleep of a second replaced by nothing; --rate_limit 0; processes in the place of threads"

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        return [[sys.executable, "-c", WORKER]] * (processes * threads)
