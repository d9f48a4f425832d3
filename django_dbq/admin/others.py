"""Groups, worker processes and paused queues."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib import admin
from django.db import models, router
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from django_dbq import conf
from django_dbq.admin import shown
from django_dbq.admin.base import Page
from django_dbq.engine.lifecycle import HELD_STATES
from django_dbq.models import Group, Job, PausedQueue, WorkerProcess, pause_queue, resume_queue
from django_dbq.models.group import UNENDED_STATES
from django_dbq.store import get_store


class ReadOnly(Page):
    """Rows that the engine writes and nobody else."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        user, name = request.user, self.opts.model_name
        return user.has_perm(f"django_dbq.view_{name}") or user.has_perm(f"django_dbq.change_{name}")


class GroupAdmin(ReadOnly):
    """Groups, and how far each has come."""

    list_display = ("reference", "shown_done", "shown_created", "shown_jobs", "description")
    search_fields = ("=reference",)
    search_help_text = "A whole reference."
    fields = ("reference", "description", "shown_created", "shown_final", "shown_jobs", "shown_progress")
    readonly_fields = fields
    ordering = ("-pk",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Group]:
        jobs = Job.objects.filter(group=models.OuterRef("pk")).order_by()
        unended = models.Exists(jobs.filter(state__in=UNENDED_STATES))
        done = models.Case(models.When(unended, then=False), default=models.Exists(jobs))
        return super().get_queryset(request).annotate(is_done=done)  # type: ignore[no-any-return]

    @admin.display(description="done", boolean=True)
    def shown_done(self, group: Any) -> bool:
        return bool(group.is_done)

    @admin.display(description="created")
    def shown_created(self, group: Group) -> str:
        return shown.moment(group.created)

    @admin.display(description="jobs")
    def shown_jobs(self, group: Group) -> str:
        url = f"{reverse('admin:django_dbq_job_changelist')}?group={group.pk}"
        return format_html('<a href="{}">Jobs</a>', url)

    @admin.display(description="final job")
    def shown_final(self, group: Group) -> str:
        if group.final is None:
            return "-"
        url = reverse("admin:django_dbq_job_change", args=[group.final.pk])
        return format_html('<a href="{}">{}</a> {}', url, group.final.name, shown.badge(group.final.state))

    @admin.display(description="progress")
    def shown_progress(self, group: Group) -> str:
        found = group.progress()
        return format_html(
            "{} of {} jobs complete, {} cancelled; {} had errors, {} have one now."
            " Took {} so far, about {} left.",
            *(found.executed, found.total, found.cancelled, found.with_errors, found.current_errors),
            *(shown.duration(found.consumed_seconds), shown.duration(found.remaining_seconds)),
        )


class WorkerProcessAdmin(ReadOnly):
    """Live worker processes, and those last heard from within a day."""

    list_display = (
        *("name", "shown_alive", "host", "pid", "shown_queues", "threads", "shown_held"),
        *("tasks_done", "tasks_failed", "shown_memory", "shown_started", "shown_seen"),
    )
    fields = list_display
    readonly_fields = list_display
    ordering = ("-seen",)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Workers", **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[WorkerProcess]:
        held = Job.objects.filter(
            lease_until__isnull=False, state__in=HELD_STATES, claimed_by=models.OuterRef("name")
        ).order_by()
        number = held.values("claimed_by").annotate(n=models.Count("pk")).values("n")
        now = get_store(router.db_for_read(WorkerProcess)).clock()
        since = now - datetime.timedelta(seconds=conf.options().LEASE_SECONDS)
        alive = models.ExpressionWrapper(models.Q(seen__gte=since), models.BooleanField())
        workers = super().get_queryset(request)
        return workers.annotate(held=models.Subquery(number), alive=alive)  # type: ignore[no-any-return]

    @admin.display(description="alive", boolean=True)
    def shown_alive(self, worker: Any) -> bool:
        return bool(worker.alive)

    @admin.display(description="queues")
    def shown_queues(self, worker: WorkerProcess) -> str:
        return ", ".join(map(str, worker.queue_names or ()))

    @admin.display(description="jobs held")
    def shown_held(self, worker: Any) -> int:
        return worker.held or 0

    @admin.display(description="memory")
    def shown_memory(self, worker: WorkerProcess) -> str:
        return "-" if worker.rss_bytes is None else f"{worker.rss_bytes / 2**20:,.0f} MiB"

    @admin.display(description="started")
    def shown_started(self, worker: WorkerProcess) -> str:
        return shown.moment(worker.started)

    @admin.display(description="seen")
    def shown_seen(self, worker: WorkerProcess) -> str:
        return shown.moment(worker.seen)


class PausedQueueAdmin(Page):
    """Paused queues: to add one pauses it, to delete one resumes it."""

    list_display = ("name", "paused")
    fields = ("name",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        verbs = ("view", "add", "delete", "change")
        return any(request.user.has_perm(f"django_dbq.{verb}_pausedqueue") for verb in verbs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        pause_queue(obj.name)
        obj.refresh_from_db()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        resume_queue(obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[PausedQueue]) -> None:
        for name in queryset.values_list("name", flat=True):
            resume_queue(name)
