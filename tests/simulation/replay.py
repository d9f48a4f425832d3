"""A trace of the model, played again on a real store: the same answers, the same rows."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from django_dbq.models import Job, TaskRun
from django_dbq.store import get_store
from tests.simulation.model import Row, RunRow

T0 = datetime.datetime(2031, 1, 1, tzinfo=datetime.UTC)

# One store of each kind: a second SQLite would tell nothing new.
_AT_HAND = [alias for alias in ("mariadb", "sqlite", "default") if alias in settings.DATABASES]
ALIASES = sorted({settings.DATABASES[alias]["ENGINE"]: alias for alias in _AT_HAND}.values())

LEASE_TOLERANCE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Event:
    """One verb, what the model answered, and every row after it."""

    verb: str
    now: float
    values: dict[str, Any]
    answer: Any
    rows: dict[Any, Any]


def moment(seconds):
    return None if seconds is None else T0 + datetime.timedelta(seconds=seconds)


def replay(alias, trace):
    """Play a trace on the store of `alias`, and undo it. Fails at the first difference."""
    with transaction.atomic(using=alias):
        try:
            for number, event in enumerate(trace):
                try:
                    assert plain(event.verb, _do(alias, event)) == event.answer, "another answer"
                    assert snapshot_of_store(alias) == event.rows, "other rows"
                except Exception as error:
                    error.add_note(f"{alias}, event {number}: {event.verb} at {event.now:g} s {event.values}")
                    raise
        finally:
            transaction.set_rollback(True, using=alias)


def _do(alias, event):
    store, values, now = get_store(alias), dict(event.values), moment(event.now)
    match event.verb:
        case "create":
            return _create(alias, values["row"])
        case "claim" | "record" | "rescue" | "release":
            return getattr(store, event.verb)(**values, now=now)
        case "stage":
            return store.stage(now=now)
        case "prune":
            return store.prune(before=moment(values["before"])).jobs.total()
        case "extend":
            # It knows the database's clock alone: the lease is told from there.
            ahead = (now - datetime.datetime.now(datetime.UTC)).total_seconds()
            return store.extend(**{**values, "lease_seconds": ahead + values["lease_seconds"]})
        case _:
            return getattr(store, event.verb)(**values)


def _create(alias, row):
    job = Job(id=row.id, name=row.name, queue_name=row.queue_name, priority=row.priority)
    jobs = Job.objects.using(alias)
    jobs.bulk_create([job])
    jobs.filter(pk=row.id).update(
        created=moment(row.created), run_after=moment(row.run_after), staged=row.staged
    )


def plain(verb, answer):
    """An answer as values that compare, whichever store gave it."""
    match verb:
        case "claim":
            return [_view(job) for job in answer]
        case "rescue":
            ready, spent = answer
            return sorted(str(job.id) for job in ready), sorted(_view(job) for job in spent)
        case "record" | "recorded" | "release" | "cancel":
            return {pk: str(state) for pk, state in answer.items()}
        case "create":
            return None
        case _:
            return answer


def _view(job):
    place = (job.next_task, job.position, job.attempt, job.lost_attempts)
    return str(job.id), job.claim, *place, str(job.prior_state), str(job.workspace), job.spent


def snapshot_of_model(model):
    return {
        **{pk: _row(row, row.lease_until, row.run_after) for pk, row in model.rows.items()},
        **model.runs,
    }


def snapshot_of_store(alias):
    rows = {}
    for job in Job.objects.using(alias).defer("plan", "modified"):
        rows[job.pk] = _row(job, _seconds(job.lease_until), _seconds(job.run_after))
    for run in TaskRun.objects.using(alias).all():
        rows[run.job_id, run.claim] = RunRow(
            run.task, run.position, run.attempt, run.worker, run.outcome, run.error, run.changes
        )
    return rows


def _seconds(time):
    return None if time is None else (time - T0).total_seconds()


def _row(row: Row | Job, lease_until, run_after):
    if lease_until is not None:
        # As near as the extend of a real store can be told.
        lease_until = max(-1, round(lease_until / LEASE_TOLERANCE_SECONDS)) if lease_until > 0 else -1
    return {
        "state": str(row.state),
        "lease_until": lease_until,
        "run_after": run_after,
        "started": row.started is not None,
        "finished": row.finished is not None,
        **{
            name: getattr(row, name)
            for name in (
                *("name", "queue_name", "priority", "next_task", "position", "attempt", "lost_attempts"),
                *("claim", "claimed_by", "staged", "cancel_requested", "workspace", "result", "error"),
            )
        },
    }
