"""The page of one job: what is known of it, its attempts, and its workspace before and after each."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from django_dbq import calls
from django_dbq.admin import shown
from django_dbq.engine.history import Value, Workspace, rebuild
from django_dbq.engine.lifecycle import DUE_STATES, FINISHED_STATES, HELD_STATES, UNSUCCESSFUL, State
from django_dbq.models import Group, Job, PausedQueue, ScheduleRun, Unreadable
from django_dbq.redaction import redact, redact_text

ATTEMPTS = 50  # Shown of a job at first,
ATTEMPTS_MAX = 1_000  # and when more are asked for.


def context_of(request: HttpRequest, job: Job) -> dict[str, Any]:
    """Return what the template of a job's page shows of it."""
    wanted = request.GET.get("attempts", "")
    limit = min(ATTEMPTS_MAX, int(wanted)) if wanted.isdecimal() and len(wanted) < 6 else ATTEMPTS
    runs = list(job.runs.order_by("-claim")[: limit + 1])
    earlier = len(runs) > limit
    runs = runs[:limit][::-1]
    known = {} if isinstance(job.workspace, Unreadable) else job.workspace or {}
    steps, contradicted = rebuild([run.changes for run in runs], known)
    attempts = [
        {
            "task": run.task,
            "number": run.attempt,
            "worker": run.worker,
            "started": shown.moment(run.started),
            "duration": shown.duration((run.finished - run.started).total_seconds()),
            "outcome": shown.badge(run.outcome, shown.OUTCOME_TONES.get(run.outcome)),
            "failed": run.outcome in UNSUCCESSFUL,
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
        "ahead": list(plan[job.position :]) if unended else [],
        "ahead_of_failed": list(plan[job.position + 1 :]) if job.state == State.FAILED else [],
        "running": job.state in HELD_STATES,
        "call": _call(job),
        "with_workspace": job.call is None or bool(job.workspace),
        "workspace": shown.as_json(job.workspace or {}),
        "result": None if job.result is None else _result(job),
        "error": redact_text(shown.cut(job.error)) if job.error else "",
    }


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


def _result(job: Job) -> str:
    return shown.as_json(job.result) if job.call is None else shown.as_values(job.result)


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
        "args": shown.as_values(args),
        "kwargs": shown.as_values(kwargs),
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
        ("Label", _with_label(job.label) if job.label else ""),
        ("Group", _link(job.group, "group") if job.group else ""),
        ("Final job of", _link(ends, "group") if ends else ""),
        ("Schedule", _link(schedule_run.schedule, "schedule") if schedule_run else ""),
        ("For the slot", shown.moment(schedule_run.slot) if schedule_run else ""),
        ("Created", shown.moment(job.created)),
        ("Not before", shown.moment(job.run_after) if waits else ""),
        ("Started", shown.moment(job.started) if job.started else ""),
        ("Finished", shown.moment(job.finished) if job.finished else ""),
        ("Duration", shown.duration(seconds) if (seconds := seconds_of(job)) is not None else ""),
        ("Worker", job.claimed_by or ""),
        ("Lease until", shown.moment(job.lease_until) if job.lease_until else ""),
        ("Attempt", job.attempt or ""),
        ("Workers lost", job.lost_attempts or ""),
        ("Cancel", "asked for" if job.cancel_requested and job.state not in FINISHED_STATES else ""),
    ]
    return [(name, value) for name, value in facts if value != ""]


def _link(row: Any, model: str) -> str:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:django_dbq_{model}_change", args=[row.pk]), row)


def _with_label(label: str) -> str:
    jobs = f"{reverse('admin:django_dbq_job_changelist')}?{urlencode({'label': label})}"
    return format_html('<a href="{}">{}</a>', jobs, label)


def seconds_of(job: Job) -> float | None:
    """Return how long a job took, or has taken; None for one that has not begun."""
    if job.started is None or job.state not in (*FINISHED_STATES, *HELD_STATES):
        return None
    return max(0.0, ((job.finished or timezone.now()) - job.started).total_seconds())
