"""Queues that somebody has paused: workers claim nothing from them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models, router

from django_dbq.engine.workflow import QUEUE_NAME_MAX
from django_dbq.exceptions import DBQError


class PausedQueue(models.Model):
    """A queue whose jobs wait until it is resumed; what runs goes on."""

    name = models.CharField(max_length=QUEUE_NAME_MAX, primary_key=True)
    paused = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


def check_queue_name(name: Any) -> None:
    """Raise DBQError for what cannot be a queue's name."""
    if not isinstance(name, str) or not name or len(name) > QUEUE_NAME_MAX:
        raise DBQError(f"a queue's name is text of 1 to {QUEUE_NAME_MAX} characters, not {name!r}")


def pause_queue(name: str, using: str | None = None) -> bool:
    """Pause a queue: workers claim nothing from it, and what runs ends its task. False if it was paused.

    They notice within a poll interval. Raises DBQError for what cannot be a queue's name.
    """
    check_queue_name(name)
    rows = PausedQueue.objects.using(using or router.db_for_write(PausedQueue))
    return rows.get_or_create(name=name)[1]


def resume_queue(name: str, using: str | None = None) -> bool:
    """Let workers claim from a queue again, and wake them. False if it was not paused."""
    from django_dbq.store import get_store

    using = using or router.db_for_write(PausedQueue)
    deleted, _ = PausedQueue.objects.using(using).filter(name=name).delete()
    if deleted:
        get_store(using).announce([name])
    return bool(deleted)


def paused_queues(using: str | None = None) -> list[str]:
    """Return the names of the queues that are paused, in order."""
    rows = PausedQueue.objects.using(using or router.db_for_write(PausedQueue))
    return list(rows.order_by("name").values_list("name", flat=True))
