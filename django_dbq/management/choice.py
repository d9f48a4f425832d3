"""Which jobs the commands for many of them take: by id, state, name and queue; and the batches they go in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser
from django.db import models

from django_dbq.models import Job

BATCH = 1_000


def add_choice(parser: CommandParser, states: Iterable[str], of_state: str) -> None:
    """Add the arguments that choose jobs; `of_state` is the help of --state."""
    parser.add_argument("id", nargs="*", type=UUID, help="these jobs; without ids, all that match")
    parser.add_argument("--state", choices=[str(state) for state in states], help=of_state)
    parser.add_argument("--name", help="jobs of this name")
    parser.add_argument("--queue", help="jobs of this queue")
    parser.add_argument("--dry-run", action="store_true", help="say how many, change nothing")


def chosen(using: str, options: dict[str, Any]) -> models.QuerySet[Job]:
    """Return the jobs of these ids, name and queue; of the state the command has its own idea."""
    jobs: models.QuerySet[Job] = Job.objects.using(using).order_by("id")
    if options["id"]:
        jobs = jobs.filter(id__in=options["id"])
    if options["name"]:
        jobs = jobs.filter(name=options["name"])
    if options["queue"]:
        jobs = jobs.filter(queue_name=options["queue"])
    return jobs


def batches(ids: list[Any]) -> Iterator[list[Any]]:
    """Yield these ids, so many at a time as one transaction may hold locked."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
