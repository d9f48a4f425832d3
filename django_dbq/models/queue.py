"""Queues that somebody has paused: workers claim nothing from them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from django_dbq.engine.workflow import QUEUE_NAME_MAX


class PausedQueue(models.Model):
    """A queue whose jobs wait until it is resumed; what runs goes on."""

    name = models.CharField(max_length=QUEUE_NAME_MAX, primary_key=True)
    paused = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name
