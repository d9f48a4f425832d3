"""Jobs: the lists, what can be done to them, and a page of one with its history."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from django.contrib import admin, messages
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
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import capfirst

from django_dbq import calls
from django_dbq.admin import lists, shown
from django_dbq.engine.history import Value, Workspace, rebuild
from django_dbq.engine.lifecycle import DUE_STATES, FINISHED_STATES, HELD_STATES, State
from django_dbq.models import Group, Job, PausedQueue, ScheduleRun, pause_queue, resume_queue
from django_dbq.redaction import redact, redact_text
from django_dbq.store import get_store

ACTION_MAX = 10_000  # Jobs that one action deals with.
BATCH = 1_000
ATTEMPTS = 50  # Shown of a job at first,
ATTEMPTS_MAX = 1_000  # and when more are asked for.

# What no list shows, and may be large.
LEFT_OUT = ("workspace", "result", "error", "plan", "call", "signature", "identity")

# What may be done to a job: its label, and the states that it is offered in.
VERBS = {
    "retry": ("Retry from the failed task", (State.FAILED, State.CANCELLED)),
    "retry_from_start": ("Retry from the start", FINISHED_STATES),
    "run_now": ("Run now", DUE_STATES),
    "cancel": ("Cancel", (*DUE_STATES, State.WAITING, *HELD_STATES)),
}


class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Jobs, read-only: they change by the actions alone."""

    list_display = (
        *("shown_name", "shown_state", "shown_queue", "shown_created"),
        *("shown_then", "shown_duration", "priority", "attempt"),
    )
    list_filter = (
        *(lists.StateFilter, lists.AgeFilter, lists.QueueFilter),
        *(lists.NameFilter, lists.GroupFilter),
    )
    search_fields = ("id", "title", "label", "name")
    search_help_text = "An id or its first 8 digits, a title, a label, a group, or how a name begins."
    ordering = ("-created", "-id")
    sortable_by = ("shown_created",)
    list_per_page = 50
    list_max_show_all = 200
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = lists.BoundedPaginator
    actions = ("retry", "retry_from_start", "run_now", "cancel", "pause_queues", "resume_queues")
    change_list_template = "admin/django_dbq/job_list.html"
    states: ClassVar[Collection[State]] = ()  # Of the list, where it does not have all.
    condition: ClassVar[models.Q] = models.Q()
    left_out: ClassVar[Collection[str]] = LEFT_OUT

    class Media:
        css: ClassVar = {"all": ["django_dbq/admin.css"]}

    # Permissions: those of a job, on each of its pages.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_dbq.change_job")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_dbq.delete_job")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_dbq.view_job") or self.has_change_permission(request)

    # The list.

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Job]:
        return super().get_queryset(request).filter(self.condition)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[lists.BoundedChangeList]:
        return lists.BoundedChangeList

    def get_paginator(
        self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any
    ) -> Paginator:  # type: ignore[type-arg]
        if not issubclass(queryset.model, Job):  # The entries of a job's history.
            return Paginator(queryset, per_page, *args, **kwargs)
        paginator = lists.BoundedPaginator(queryset.defer(*self.left_out), per_page, *args, **kwargs)
        if not {"q", "age", "queue", "name", "group"} & request.GET.keys():
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
        return format_html('<span class="dbq-time">{}</span>', shown.duration(_seconds(job)))

    # What can be done to those chosen from it.

    @admin.action(description="Retry from the failed task", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "retry")

    @admin.action(description="Retry from the start", permissions=["change"])
    def retry_from_start(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "retry_from_start")

    @admin.action(description="Run now, whatever they wait for the time of", permissions=["change"])
    def run_now(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "run_now")

    @admin.action(description="Cancel", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        self._do(request, queryset, "cancel")

    @admin.action(description="Pause the queues of these jobs", permissions=["change"])
    def pause_queues(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        names = [name for name in self._queues(queryset) if pause_queue(name)]
        _tell(request, len(names), f"Paused: {', '.join(names)}.", "These queues are paused already.")

    @admin.action(description="Resume the queues of these jobs", permissions=["change"])
    def resume_queues(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        names = [name for name in self._queues(queryset) if resume_queue(name)]
        _tell(request, len(names), f"Resumed: {', '.join(names)}.", "None of these queues is paused.")

    def _queues(self, queryset: models.QuerySet[Job]) -> list[str]:
        return sorted({*queryset.values_list("queue_name", flat=True)[:ACTION_MAX]})

    def _do(self, request: HttpRequest, queryset: models.QuerySet[Job], verb: str) -> None:
        jobs = list(queryset.defer(*LEFT_OUT)[: ACTION_MAX + 1])
        if len(jobs) > ACTION_MAX:
            del jobs[ACTION_MAX:]
            messages.warning(request, f"An action deals with {ACTION_MAX:,} jobs at most: the first ones.")
        done = apply(verb, jobs)
        if done:
            text = f"{VERBS[verb][0]}."
            lists.note(request, jobs, text)
        label = VERBS[verb][0]
        left = len(jobs) - done
        more = f" {left} left as they were: {_WHY[verb]}." if left else ""
        _tell(
            request, done, f"{label}: {_jobs(done)}.{more}", f"{label}: none of them. {capfirst(_WHY[verb])}."
        )

    # Deleting: Django would read every job, and every attempt, to list them.

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        jobs = list(objs[:21]) if isinstance(objs, models.QuerySet) else list(objs)
        number = min(ACTION_MAX, objs[: ACTION_MAX + 1].count()) if len(jobs) > 20 else len(jobs)
        named: list[Any] = [str(job) for job in jobs[:20]]
        if number > 20:
            named.append(f"and {number - 20:,} more")
        denied = set() if self.has_delete_permission(request) else {"job"}
        return named, {"jobs, with their history": number}, denied, []

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> None:
        ids = list(queryset.values_list("pk", flat=True)[:ACTION_MAX])
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
            "history_url": self._url("history", job.pk),
            "delete_url": self._url("delete", job.pk),
            **_page(request, job),
            **(extra_context or {}),
        }
        if not self.has_change_permission(request):
            context["verbs"] = []
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
            _tell(request, done, f"{label}: done.", f"{label}: nothing was done. {capfirst(_WHY[verb])}.")
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
    "retry": "a job has to have ended to run again",
    "retry_from_start": "a job has to have ended, and to know its first task, to run again",
    "run_now": "they are not waiting for a time",
    "cancel": "what has ended cannot be cancelled",
}


def apply(verb: str, jobs: Collection[Job]) -> int:
    """Do one of VERBS to jobs; return to how many of them it was done."""
    using = router.db_for_write(Job)
    ids = [job.pk for job in jobs]
    done = 0
    for start in range(0, len(ids), BATCH):
        done += _APPLY[verb](using, ids[start : start + BATCH])
    if done:
        get_store(using).announce({job.queue_name for job in jobs})
    return done


def _run_now(using: str, ids: Collection[Any]) -> int:
    waiting = Job.objects.using(using).filter(pk__in=ids, state__in=DUE_STATES, run_after__isnull=False)
    done = 0
    for job in waiting:
        job.run_after = None
        job.save(using=using)
        done += 1
    return done


_APPLY: dict[str, Callable[[str, Collection[Any]], int]] = {
    "retry": lambda using, ids: get_store(using).retry(ids),
    "retry_from_start": lambda using, ids: get_store(using).retry(ids, from_start=True),
    "run_now": _run_now,
    "cancel": lambda using, ids: len(get_store(using).cancel(ids)),
}


def _tell(request: HttpRequest, done: int, text: str, otherwise: str) -> None:
    messages.add_message(request, messages.SUCCESS if done else messages.WARNING, text if done else otherwise)


def _jobs(number: int) -> str:
    return f"{number:,} job{'' if number == 1 else 's'}"


def _seconds(job: Job) -> float | None:
    if job.started is None or job.state not in (*FINISHED_STATES, *HELD_STATES):
        return None
    end = job.finished or (timezone.now() if timezone.is_aware(job.started) else timezone.localtime())
    return max(0.0, (end - job.started).total_seconds())


# The page.


def _page(request: HttpRequest, job: Job) -> dict[str, Any]:
    wanted = request.GET.get("attempts", "")
    limit = min(ATTEMPTS_MAX, int(wanted)) if wanted.isdecimal() and len(wanted) < 6 else ATTEMPTS
    runs = list(job.runs.order_by("-claim")[: limit + 1])
    earlier = len(runs) > limit
    runs = runs[:limit][::-1]
    steps, contradicted = rebuild([run.changes for run in runs], job.workspace or {})
    attempts = [
        {
            "task": run.task,
            "number": run.attempt,
            "worker": run.worker,
            "started": shown.moment(run.started),
            "duration": shown.duration((run.finished - run.started).total_seconds()),
            "outcome": shown.badge(run.outcome, shown.OUTCOME_TONES.get(run.outcome)),
            "failed": run.outcome in ("failed", "lost"),
            "error": redact_text(shown.cut(run.error)) if run.error else "",
            "error_line": redact_text(run.error.strip().rpartition("\n")[2][:300]) if run.error else "",
            "changed": [
                (key, _text(step.before[key], key), _text(step.after[key], key)) for key in step.changed
            ],
            "before": _whole(step.before),
            "after": _whole(step.after),
        }
        for run, step in zip(runs, steps, strict=True)
    ]
    schedule_run = ScheduleRun.objects.filter(job=job.pk).select_related("schedule").first()
    plan = job.plan if isinstance(job.plan, (list, tuple)) else []
    unended = job.state not in FINISHED_STATES
    return {
        "facts": _facts(job, schedule_run),
        "state": shown.badge(job.state),
        "attempts": attempts,
        "earlier": earlier,
        "more_attempts": min(ATTEMPTS_MAX, limit * 10) if limit < ATTEMPTS_MAX else None,
        "contradicted": contradicted,
        "ahead": list(plan[job.position :]) if unended and not _stands_alone(job) else [],
        "ahead_of_failed": list(plan[job.position + 1 :]) if job.state == State.FAILED else [],
        "running": job.state in HELD_STATES,
        "call": _call(job),
        "workspace": shown.as_json(job.workspace or {}),
        "result": None if job.result is None else shown.as_json(job.result),
        "error": redact_text(shown.cut(job.error)) if job.error else "",
        "verbs": [(verb, label) for verb, (label, states) in VERBS.items() if _offered(verb, job, states)],
    }


def _stands_alone(job: Job) -> bool:
    return not job.plan


def _offered(verb: str, job: Job, states: Collection[str]) -> bool:
    return job.state in states and (verb != "run_now" or job.run_after is not None)


def _text(value: Value, key: str) -> str:
    """Return what stood under a key, as text for people."""
    if value.kind == "known":
        return shown.as_json(redact({key: value.value})[key], shown.VALUE_MAX)
    return {
        "absent": "(nothing)",
        "unknown": "(something: nobody noted what)",
        "perhaps": "(not known)",
    }[value.kind]


def _whole(workspace: Workspace) -> str:
    known = {key: value.value for key, value in workspace.items() if value.kind == "known"}
    lines = shown.as_json(known)
    unsure = [key for key, value in workspace.items() if value.kind in ("unknown", "perhaps")]
    return lines + (f"\n\nNot known: {', '.join(unsure)}" if unsure else "")


def _call(job: Job) -> dict[str, Any] | None:
    """Return the arguments of a function call, as its row has them."""
    if job.call is None:
        return None
    try:
        call = json.loads(job.call)
        args, kwargs, options = call["args"], call["kwargs"], call["options"]
    except (ValueError, KeyError, TypeError):
        return {"unreadable": True}
    return {
        "args": shown.as_json(args),
        "kwargs": shown.as_json(kwargs),
        "options": shown.as_json(options) if options else "",
        "signed": calls.signature_holds(job),
    }


def _facts(job: Job, schedule_run: ScheduleRun | None) -> list[tuple[str, Any]]:
    ends = Group.objects.filter(final=job.pk).first()
    paused = PausedQueue.objects.filter(pk=job.queue_name).exists()
    queue = format_html("{} {}", job.queue_name, shown.badge("paused", "busy")) if paused else job.queue_name
    waits = job.state in DUE_STATES and job.run_after is not None
    facts = [
        ("Name", job.name if job.title else ""),
        ("Id", job.pk),
        ("Queue", queue),
        ("Priority", job.priority),
        ("Label", job.label or ""),
        ("Group", _link(job.group, "group") if job.group else ""),
        ("Final job of", _link(ends, "group") if ends else ""),
        ("Schedule", _link(schedule_run.schedule, "schedule") if schedule_run else ""),
        ("For the slot", shown.moment(schedule_run.slot) if schedule_run else ""),
        ("Created", shown.moment(job.created)),
        ("Not before", shown.moment(job.run_after) if waits else ""),
        ("Started", shown.moment(job.started) if job.started else ""),
        ("Finished", shown.moment(job.finished) if job.finished else ""),
        ("Duration", shown.duration(seconds) if (seconds := _seconds(job)) is not None else ""),
        ("Worker", job.claimed_by or ""),
        ("Lease until", shown.moment(job.lease_until) if job.lease_until else ""),
        ("Attempt", job.attempt or ""),
        ("Workers lost", job.lost_attempts or ""),
        ("Cancel", "asked for" if job.cancel_requested and job.state not in FINISHED_STATES else ""),
    ]
    return [(name, value) for name, value in facts if value != ""]


def _link(row: Any, model: str) -> str:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:django_dbq_{model}_change", args=[row.pk]), row)
