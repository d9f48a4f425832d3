"""Jobs as the admin lists them: no tables of their own, and no permissions beside those of a job."""

from __future__ import annotations

from typing import ClassVar

from django_dbq.models.job import Job


class SuccessfulJob(Job):
    """A job that is complete."""

    class Meta:
        proxy = True
        default_permissions: ClassVar = ()
        verbose_name = "successful job"


class FailedJob(Job):
    """A job that has failed."""

    class Meta:
        proxy = True
        default_permissions: ClassVar = ()
        verbose_name = "failed job"


class QueuedJob(Job):
    """A job that has not ended."""

    class Meta:
        proxy = True
        default_permissions: ClassVar = ()
        verbose_name = "queued job"
