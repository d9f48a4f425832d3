"""Jobs: the lists, and what can be done to them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected as confirm_and_delete
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import models, router
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst

from django_dbq.admin import job_page, lists, shown
from django_dbq.admin.base import Page
from django_dbq.engine.lifecycle import DUE_STATES, FINISHED_STATES, HELD_STATES, State
from django_dbq.models import Job, pause_queue, resume_queue
from django_dbq.redaction import redact_text
from django_dbq.store import Store, get_store

ACTION_MAX = 10_000  # Jobs that one action deals with.
BATCH = 1_000
OTHER_FIELDS = 10  # At most, of the form that confirms a deletion, beside the jobs.

# What no list shows, and may be large.
LEFT_OUT = ("workspace", "result", "error", "plan", "call", "signature", "identity")

# What may be done to a job: its label, and the states that it is offered in.
VERBS = {
    "retry": ("Retry from the failed task", (State.FAILED, State.CANCELLED)),
    "retry_from_start": ("Retry from the start", FINISHED_STATES),
    "run_now": ("Run now", DUE_STATES),
    "cancel": ("Cancel", (*DUE_STATES, State.WAITING, *HELD_STATES)),
}


class JobAdmin(Page):
    """Jobs, read-only: they change by the actions alone."""

    list_display = (
        *("shown_name", "shown_state", "shown_queue", "shown_created"),
        *("shown_then", "shown_duration", "priority", "attempt"),
    )
    list_filter = (
        *(lists.StateFilter, lists.AgeFilter, lists.QueueFilter),
        *(lists.NameFilter, lists.GroupFilter),
    )
    linked = ("label",)
    search_fields = ("id", "title", "label", "name")
    search_help_text = "An id or its first 8 digits, a title, a label, a group, or how a name begins."
    ordering = ("-created", "-id")
    sortable_by = ("shown_created",)
    list_per_page = 50
    list_max_show_all = 200
    paginator = lists.BoundedPaginator
    actions = (
        *("retry", "retry_from_start", "run_now", "cancel", "pause_queues", "resume_queues"),
        "delete_selected",
    )
    change_list_template = "admin/django_dbq/job_list.html"
    states: ClassVar[Collection[State]] = ()  # Of the list, where it does not have all.
    condition: ClassVar[models.Q] = models.Q()
    left_out: ClassVar[Collection[str]] = LEFT_OUT

    # Permissions: those of a job, on each of its pages.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_dbq.change_job")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_dbq.delete_job")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_dbq.add_pausedqueue")

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_dbq.delete_pausedqueue")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_dbq.view_job") or self.has_change_permission(request)

    # The list.

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Job]:
        # As plain jobs, whichever list it is: what is noted of a job then stands in one history.
        jobs = Job.objects.filter(self.condition)
        return jobs.order_by(*self.get_ordering(request))  # type: ignore[no-any-return]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[lists.BoundedChangeList]:
        return lists.BoundedChangeList

    def get_paginator(
        self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any
    ) -> Paginator:  # type: ignore[type-arg]
        if not issubclass(queryset.model, Job):  # The entries of a job's history.
            return Paginator(queryset, per_page, *args, **kwargs)
        paginator = lists.BoundedPaginator(queryset.defer(*self.left_out), per_page, *args, **kwargs)
        paginator.near = hasattr(request, "_dbq_since")
        if request.GET.keys().isdisjoint({"q", *self.filters(request)} - {"state"}):
            wanted = request.GET.get("state")
            if wanted in list(State) or wanted is None:
                states = [State(wanted)] if wanted else self.states or [*State]
                paginator.estimate = lambda: self._estimate(states)
        return paginator

    def _estimate(self, states: Collection[str]) -> int:
        counts = get_store(router.db_for_read(Job)).count()
        return sum(number for (state, _), number in counts.numbers.items() if state in states)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Job], search_term: str
    ) -> tuple[models.QuerySet[Job], bool]:
        return (lists.search(request, queryset, search_term) if search_term.strip() else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    @admin.display(description="job")
    def shown_name(self, job: Job) -> str:
        return job.title or job.name

    @admin.display(description="state")
    def shown_state(self, job: Job) -> str:
        return shown.badge(job.state)

    @admin.display(description="created", ordering="created")
    def shown_created(self, job: Job) -> str:
        return shown.brief(job.created)

    @admin.display(description="finished or due")
    def shown_then(self, job: Job) -> str:
        if job.state in DUE_STATES and job.run_after is not None:
            return format_html("due {}", shown.brief(job.run_after))
        return shown.brief(job.finished)

    @admin.display(description="queue")
    def shown_queue(self, job: Job) -> str:
        return job.queue_name

    @admin.display(description="took")
    def shown_duration(self, job: Job) -> str:
        return format_html('<span class="dbq-time">{}</span>', shown.duration(job_page.seconds_of(job)))

    # What can be done to those chosen from it.

    @admin.action(description="Retry from the failed task", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "retry")

    @admin.action(description="Retry from the start", permissions=["change"])
    def retry_from_start(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "retry_from_start")

    @admin.action(description="Run now instead of waiting for their time", permissions=["change"])
    def run_now(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "run_now")

    @admin.action(description="Cancel", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "cancel")

    @admin.action(description="Pause the queues of these jobs", permissions=["pause"])
    def pause_queues(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        names = [name for name in self._queues(queryset) if pause_queue(name)]
        _tell(request, len(names), f"Paused: {', '.join(names)}.", "These queues are paused already.")

    @admin.action(description="Resume the queues of these jobs", permissions=["resume"])
    def resume_queues(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        names = [name for name in self._queues(queryset) if resume_queue(name)]
        _tell(request, len(names), f"Resumed: {', '.join(names)}.", "None of these queues is paused.")

    def _queues(self, queryset: models.QuerySet[Job]) -> list[str]:
        return sorted({*queryset.values_list("queue_name", flat=True)[:ACTION_MAX]})

    def _do(self, request: HttpRequest, queryset: models.QuerySet[Job], verb: str) -> None:
        jobs = _first(request, queryset, ACTION_MAX)
        label = VERBS[verb][0]
        changed = apply(verb, jobs)
        if changed:
            lists.note(request, [job for job in jobs if job.pk in changed], f"{label}.")
        done, left = len(changed), len(jobs) - len(changed)
        more = f" {left} left as they were: {_WHY[verb]}." if left else ""
        _tell(
            request, done, f"{label}: {_jobs(done)}.{more}", f"{label}: none of them. {capfirst(_WHY[verb])}."
        )

    # Deleting: Django would read every job, and every attempt, to list them.

    @admin.action(description=confirm_and_delete.short_description, permissions=["delete_selected"])  # type: ignore[attr-defined]
    def delete_selected(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> Any:
        """Do what Django does, to so many jobs as the form can name that comes back when it is confirmed."""
        fields_max = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        most = ACTION_MAX if fields_max is None else min(ACTION_MAX, fields_max - OTHER_FIELDS)
        return confirm_and_delete(self, request, _first(request, queryset, most))

    def has_delete_selected_permission(self, request: HttpRequest) -> bool:
        # A site may have taken the action away.
        left = {name for name, _ in self.admin_site.actions}
        return self.has_delete_permission(request) and "delete_selected" in left

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        number = len(objs)
        named: list[Any] = [str(job) for job in objs[:20]]
        if number > 20:
            named.append(f"and {number - 20:,} more")
        denied = set() if self.has_delete_permission(request) else {"job"}
        return named, {"jobs, with their history": number}, denied, []

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        ids = [job.pk for job in queryset]  # Those that were noted: it was read for that.
        for start in range(0, len(ids), BATCH):
            Job.objects.filter(pk__in=ids[start : start + BATCH]).delete()

    # One job.

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show a job; a POST does one of VERBS to it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        job = self._found(object_id)
        if job is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        if request.method == "POST":
            return self._act(request, job)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        context = {
            **self.admin_site.each_context(request),
            "title": job.title or job.name,
            "opts": self.opts,
            "original": job,
            "media": self.media,
            "has_view_permission": True,
            "has_delete_permission": self.has_delete_permission(request),
            "list_url": self._url("changelist"),
            "history_url": reverse(
                "admin:django_dbq_job_history", args=[job.pk], current_app=self.admin_site.name
            ),
            "delete_url": self._url("delete", job.pk),
            **job_page.context_of(request, job),
            "verbs": _offered(job) if self.has_change_permission(request) else [],
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/django_dbq/job.html", context)

    def _found(self, object_id: str) -> Job | None:
        """Return the job of an id, from whichever of the lists: it may have moved on to another."""
        try:
            key = Job._meta.pk.to_python(unquote(object_id))
        except Exception:
            return None
        found: Job | None = Job.objects.select_related("group").filter(pk=key).first()
        return found

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        job = self._found(object_id)  # For the pages of deleting and of the history.
        return job

    def _act(self, request: HttpRequest, job: Job) -> HttpResponse:
        verb = request.POST.get("verb", "")
        if not self.has_change_permission(request):
            raise PermissionDenied
        if verb in VERBS:
            label, _ = VERBS[verb]
            done = apply(verb, [job])
            if done:
                self.log_change(request, job, f"{label}.")
            _tell(
                request, len(done), f"{label}: done.", f"{label}: nothing was done. {capfirst(_WHY[verb])}."
            )
        return HttpResponseRedirect(self._url("change", job.pk))

    def _url(self, page: str, *args: Any) -> str:
        # A job may leave the list of a state; its page stays where it is.
        model = self.opts.model_name
        return reverse(f"admin:django_dbq_{model}_{page}", args=args, current_app=self.admin_site.name)


class SuccessfulJobAdmin(JobAdmin):
    states = (State.COMPLETE,)
    condition = lists.OF_STATE[State.COMPLETE]
    list_filter = JobAdmin.list_filter[1:]  # type: ignore[assignment]


class FailedJobAdmin(JobAdmin):
    states = (State.FAILED,)
    condition = lists.OF_STATE[State.FAILED]
    list_filter = JobAdmin.list_filter[1:]  # type: ignore[assignment]
    list_display = (
        *("shown_name", "shown_error", "shown_queue", "shown_created"),
        *("shown_then", "shown_duration", "priority", "attempt"),
    )

    left_out = tuple(name for name in LEFT_OUT if name != "error")

    @admin.display(description="error")
    def shown_error(self, job: Job) -> str:
        last = (job.error or "").strip().rpartition("\n")[2]
        return shown.cut(redact_text(last), 120)


class QueuedJobAdmin(JobAdmin):
    states = (*DUE_STATES, State.WAITING, *HELD_STATES)
    condition = lists.QUEUED


_WHY = {
    "retry": "a job has to have failed, or been cancelled",
    "retry_from_start": "a job has to have ended, and to know its first task, to run again",
    "run_now": "they are not waiting for a time",
    "cancel": "what has ended cannot be cancelled",
}


def apply(verb: str, jobs: Collection[Job]) -> set[Any]:
    """Do one of VERBS to jobs; return the ids of those to which it was done."""
    using = router.db_for_write(Job)
    ids = [job.pk for job in jobs]
    changed: set[Any] = set()
    for start in range(0, len(ids), BATCH):
        changed |= _APPLY[verb](get_store(using), ids[start : start + BATCH])
    if changed:
        get_store(using).announce({job.queue_name for job in jobs if job.pk in changed})
    return changed


def _retry(store: Store, ids: Collection[Any]) -> set[Any]:
    # One that is complete has no failed task: it would run again from its start.
    jobs = Job.objects.using(store.using).filter(pk__in=ids, state__in=VERBS["retry"][1])
    return store.retry(list(jobs.values_list("pk", flat=True)))


_APPLY: dict[str, Callable[[Store, Collection[Any]], set[Any]]] = {
    "retry": _retry,
    "retry_from_start": lambda store, ids: store.retry(ids, from_start=True),
    "run_now": lambda store, ids: store.run_now(ids),
    "cancel": lambda store, ids: {*store.cancel(ids)},
}


def _first(request: HttpRequest, queryset: models.QuerySet[Job], most: int) -> models.QuerySet[Job]:
    """Read the first of the jobs that were chosen, but not what may be large; say so if there are more."""
    jobs = queryset.defer(*LEFT_OUT)[:most]
    if len(jobs) == most and queryset[most : most + 1].exists():
        messages.warning(request, f"This action deals with {most:,} jobs at most: the first ones.")
    return jobs


def _tell(request: HttpRequest, done: int, text: str, otherwise: str) -> None:
    messages.add_message(request, messages.SUCCESS if done else messages.WARNING, text if done else otherwise)


def _jobs(number: int) -> str:
    return f"{number:,} job{'' if number == 1 else 's'}"


def _offered(job: Job) -> list[tuple[str, str]]:
    """Return those of VERBS, with their labels, that make sense for a job now."""
    waits = job.run_after is not None
    return [
        (verb, label)
        for verb, (label, states) in VERBS.items()
        if job.state in states and (verb != "run_now" or waits)
    ]
