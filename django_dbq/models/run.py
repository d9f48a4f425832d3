"""The history: a row for each attempt at a task."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from django_dbq.engine.workflow import TASK_PATH_MAX


class TaskRun(models.Model):
    """One attempt at one task of a job, written with the record of its outcome."""

    # Without a database constraint: checking it would lock the job's row on each insert,
    # and would keep workers of the original package from deleting old jobs.
    job = models.ForeignKey(
        "django_dbq.Job", on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="runs"
    )
    claim = models.BigIntegerField()
    task = models.CharField(max_length=TASK_PATH_MAX)
    position = models.IntegerField()
    attempt = models.IntegerField()
    worker = models.CharField(max_length=120)
    started = models.DateTimeField()
    finished = models.DateTimeField()
    outcome = models.CharField(max_length=20)
    error = models.TextField(null=True)  # With the traceback.
    changes = models.JSONField(null=True)  # {"set": {key: value}, "unset": [key]} of the workspace.

    class Meta:
        ordering: ClassVar = ["job", "claim"]
        constraints: ClassVar = [
            # An attempt is recorded once, whatever happens: the database holds that.
            models.UniqueConstraint(fields=["job", "claim"], name="dbq_taskrun_once"),
        ]

    def __str__(self) -> str:
        return f"{self.task} #{self.attempt} ({self.outcome})"
