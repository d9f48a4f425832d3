"""The row of a worker process: that it lives, where, and what it serves."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class WorkerProcess(models.Model):
    """One worker process, as it last reported itself: every third of a lease, while it runs."""

    name = models.CharField(max_length=120, primary_key=True)  # As in a job's claimed_by.
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    queue_names = models.JSONField()
    threads = models.IntegerField()
    started = models.DateTimeField()
    seen = models.DateTimeField()
    tasks_done = models.BigIntegerField(default=0, db_default=0)
    tasks_failed = models.BigIntegerField(default=0, db_default=0)
    rss_bytes = models.BigIntegerField(null=True)

    class Meta:
        ordering: ClassVar = ["started", "name"]
        verbose_name_plural = "worker processes"

    def __str__(self) -> str:
        return self.name
