"""The admin's pages: jobs, schedules, groups, workers, paused queues."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin

from django_dbq.admin import jobs, others, schedules
from django_dbq.models import (
    FailedJob,
    Group,
    Job,
    PausedQueue,
    QueuedJob,
    Schedule,
    SuccessfulJob,
    WorkerProcess,
)

PAGES: dict[type, type[admin.ModelAdmin]] = {  # type: ignore[type-arg]
    Job: jobs.JobAdmin,
    SuccessfulJob: jobs.SuccessfulJobAdmin,
    FailedJob: jobs.FailedJobAdmin,
    QueuedJob: jobs.QueuedJobAdmin,
    Schedule: schedules.ScheduleAdmin,
    Group: others.GroupAdmin,
    WorkerProcess: others.WorkerProcessAdmin,
    PausedQueue: others.PausedQueueAdmin,
}


def register(site: admin.AdminSite) -> None:
    """Add the pages to an admin site; the default one has them already."""
    for model, page in PAGES.items():
        site.register(model, page)


if apps.is_installed("django.contrib.admin"):
    register(admin.site)
