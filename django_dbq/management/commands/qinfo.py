"""manage.py qinfo: a summary of what runs, or the settings as the engine reads them."""

from __future__ import annotations

import dataclasses
import json
import platform
from typing import Any

import django
from django.conf import settings
from django.core.management.base import CommandParser
from django.db import connections, router

import django_dbq
from django_dbq import conf, metrics
from django_dbq.compat.django_q_settings import cluster, clusters
from django_dbq.management.command import JobsCommand
from django_dbq.models import Job
from django_dbq.redaction import MASK, redact


class Command(JobsCommand):
    help = "Print a summary of workers and queues, or the settings that they use."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--config", action="store_true", help="print the settings, secrets masked")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Job)
        found = _config(using) if options["config"] else _summary(using)
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2, default=str))
            return
        for line in _lines(found):
            self.stdout.write(line)


def _versions(using: str) -> dict[str, Any]:
    return {
        "django_dbq": django_dbq.__version__,
        "django": django.get_version(),
        "python": platform.python_version(),
        "database": f"{using} ({connections[using].vendor})",
    }


def _summary(using: str) -> dict[str, Any]:
    found = metrics.overview(using)
    states = [worker.state for worker in found.workers]
    living = [worker for worker in found.workers if worker.state != metrics.GONE]
    return {
        **_versions(using),
        "hosts": len({worker.host for worker in living}),
        "workers": {state: states.count(state) for state in ("idle", "busy", "stopping", metrics.GONE)},
        "tasks_done": sum(worker.tasks_done for worker in living),
        "tasks_failed": sum(worker.tasks_failed for worker in living),
        "queues": {
            queue.name: {
                "due": queue.depth,
                "later": queue.later,
                "running": queue.in_progress,
                "failed_24h": queue.failed,
                "paused": queue.paused,
            }
            for queue in found.queues
        },
    }


def _config(using: str) -> dict[str, Any]:
    options: dict[str, Any] = redact(dataclasses.asdict(conf.options()))
    # Whatever REDACT says; and it shows whether there is one.
    options["API_TOKEN"] = MASK if conf.options().API_TOKEN else ""
    found: dict[str, Any] = {**_versions(using), "DBQ": options, "JOBS": sorted(conf.workflows())}
    if hasattr(settings, "Q_CLUSTER"):
        # A password of a broker is not among what is read.
        found["Q_CLUSTER"] = {name: dataclasses.asdict(cluster(name)) for name in clusters()}
    return found


def _lines(found: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in found.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            lines.append(f"{indent}{key}: {shown}".rstrip())
    return lines
