"""The store for PostgreSQL: one statement a verb, each a file in sql/."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Collection, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

from django.db import connections, transaction

from django_dbq.engine.lifecycle import Transition
from django_dbq.models import Job, decode_workspace
from django_dbq.store import base

CHANNEL = "django_dbq"


@cache
def statement(verb: str) -> str:
    """Return the statement of `verb`, tagged with its name for logs and pg_stat_activity."""
    text = (Path(__file__).parent / "sql" / f"{verb}.sql").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return f"/* dbq:{verb} */ " + "\n".join(lines)


class PostgresStore(base.Store):
    def prepare_connection(self, lease_seconds: float) -> None:
        connection = connections[self.using]
        half = max(1, int(lease_seconds / 2))
        defaults = {
            "connect_timeout": max(2, half),  # libpq takes no less.
            "keepalives_idle": max(1, half // 3),
            "keepalives_interval": max(1, half // 3),
            "keepalives_count": 1,
            "tcp_user_timeout": half * 1_000,
        }
        # This thread's own copy: other connections of the project stay as they are.
        options = {**defaults, **connection.settings_dict.get("OPTIONS", {})}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}

    def prepare_session(self, lease_seconds: float) -> None:
        # On a table that was never analyzed the planner would scan it to find the rows
        # of a record; the engine's statements name their rows by key or by index.
        # No statement is worth waiting for longer than a lease lasts.
        milliseconds = int(lease_seconds * 500)
        with connections[self.using].cursor() as cursor:
            cursor.execute(
                "SET enable_seqscan = off;"
                f" SET statement_timeout = {milliseconds};"
                f" SET lock_timeout = {min(5_000, milliseconds)}"
            )

    def announce(self, queue_names: Collection[str]) -> None:
        connection = connections[self.using]
        if not connection.in_atomic_block and not connection.get_autocommit():
            return  # The caller commits by hand, when Django cannot tell. Polling finds the jobs.
        # One NOTIFY a transaction, however many jobs it creates: each creation asks for
        # one, the first to run after the commit sends all names, the others find none.
        pending: set[str] = connection.__dict__.setdefault("_dbq_announce", set())
        pending.update(queue_names)
        transaction.on_commit(partial(self._notify, pending), using=self.using, robust=True)

    def _notify(self, pending: set[str]) -> None:
        names = sorted(pending)
        pending.clear()
        if names:
            self._run("announce", {"queue_names": names})

    def claim(
        self,
        queue_names: Sequence[str],
        *,
        worker: str,
        limit: int,
        lease_seconds: float,
        now: datetime.datetime | None = None,
    ) -> list[Job]:
        values = {
            "queue_names": list(dict.fromkeys(queue_names)),
            "worker": worker,
            "limit": limit,
            "lease": lease_seconds,
            "now": now,
        }
        # The planner may join the claimed rows in any order.
        return sorted(self._jobs("claim", values), key=base.urgency)

    def claim_by_id(self, job_ids: Collection[Any], *, worker: str, lease_seconds: float) -> list[Job]:
        values = {"ids": list(job_ids), "worker": worker, "lease": lease_seconds}
        return sorted(self._jobs("claim_by_id", values), key=base.urgency)

    def record(
        self,
        transitions: Sequence[Transition],
        *,
        worker: str,
        lease_seconds: float,
        now: datetime.datetime | None = None,
    ) -> dict[Any, str]:
        sent = time.monotonic()
        # In the order in which every verb that waits for a row locks many: they cannot wait in a circle.
        in_order = sorted(transitions, key=lambda transition: transition.job_id)
        values = {
            "transitions": f"[{','.join(_as_json(transition, sent) for transition in in_order)}]",
            "worker": worker,
            "lease": lease_seconds,
            "now": now,
        }
        return self._pairs("record", values)

    def save_progress(self, job: Job, *, workspace: str, result: str | None, worker: str) -> bool:
        values = {
            "id": job.id,
            "claim": job.claim,
            "worker": worker,
            "workspace": workspace,
            "result": result,
        }
        return self._run("save_progress", values) == 1

    def extend(
        self, jobs: Collection[Job], *, worker: str, lease_seconds: float, stopping: bool = False
    ) -> dict[Any, bool]:
        values = {
            "ids": [job.id for job in jobs],
            "claims": [job.claim for job in jobs],
            "worker": worker,
            "lease": lease_seconds,
            "stopping": stopping,
        }
        return self._pairs("extend", values)

    def cancel(self, job_ids: Collection[Any]) -> dict[Any, str]:
        return self._pairs("cancel", {"ids": list(job_ids)})

    def deschedule(self, identity: str) -> int:
        return self._run("deschedule", {"identity": identity})

    def retry(self, job_ids: Collection[Any], *, from_start: bool = False, stuck: bool = False) -> int:
        return self._run("retry", {"ids": list(job_ids), "from_start": from_start, "stuck": stuck})

    def stage(self, *, now: datetime.datetime | None = None) -> int:
        return self._run("stage", {"now": now, "limit": base.STAGE_BATCH})

    def rescue(
        self,
        *,
        worker: str,
        lease_seconds: float,
        lost_attempts_max: int,
        now: datetime.datetime | None = None,
    ) -> tuple[int, list[Job]]:
        values = {
            "worker": worker,
            "lease": lease_seconds,
            "lost_attempts_max": lost_attempts_max,
            "now": now,
            "limit": base.RESCUE_BATCH,
        }
        jobs = self._jobs("rescue", values)
        spent = [job for job in jobs if job.claimed_by is not None]
        return len(jobs) - len(spent), spent

    def expire(self, workers: Collection[str]) -> int:
        return self._run("expire", {"workers": list(workers)})

    def clock(self) -> datetime.datetime:
        with connections[self.using].cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            now: datetime.datetime = cursor.fetchone()[0]
            return now

    def _prune_batch(self, before: datetime.datetime) -> int:
        return self._run("prune", {"before": before, "limit": base.PRUNE_BATCH})

    def _run(self, verb: str, values: dict[str, Any]) -> int:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement(verb), values)
            return int(cursor.rowcount)

    def _pairs(self, verb: str, values: dict[str, Any]) -> dict[Any, Any]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement(verb), values)
            return dict(cursor.fetchall())

    def _jobs(self, verb: str, values: dict[str, Any]) -> list[Job]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement(verb), values)
            rows = cursor.fetchall()
            names = tuple(column[0] for column in cursor.description)
        order = _field_order(names)
        return [_job(self.using, order, row) for row in rows]


@lru_cache(maxsize=8)
def _field_order(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...], dict[str, int]]:
    """Return the model's field names, where each stands in a row, and the places by name."""
    fields = tuple(field.attname for field in Job._meta.concrete_fields)
    places = {name: index for index, name in enumerate(names)}
    return fields, tuple(places[name] for name in fields), places


def _job(using: str, order: Any, row: Sequence[Any]) -> Job:
    fields, at, places = order
    job = Job.from_db(using, fields, [row[index] for index in at])
    job.prior_state = row[places["prior_state"]]
    # Django leaves JSON to the fields' converters, which a row read by hand does not pass.
    job.recorded_workspace = job.workspace
    job.workspace = decode_workspace(job.recorded_workspace)
    job.plan = _plan(job.plan)
    job.result = None if job.result is None else json.loads(job.result)
    return job


@lru_cache(maxsize=1_024)
def _plan(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def _as_json(transition: Transition, sent: float) -> str:
    """Return a transition as the object that record.sql reads."""
    values: dict[str, Any] = {
        "id": str(transition.job_id),
        "claim": transition.claim,
        "state": transition.state,
        "next_task": transition.next_task,
        "position": transition.position,
        "attempt": transition.attempt,
        "lost_attempts": transition.lost_attempts,
        "delay": transition.delay_seconds,
        "error": transition.error,
        "hold": transition.hold,
        "finished": transition.finished,
    }
    run = transition.run
    if run is not None:
        values |= {
            "task": run.task,
            "run_position": run.position,
            "run_attempt": run.attempt,
            "outcome": run.outcome,
            "age": sent - run.began,
            "seconds": run.seconds,
            "run_error": run.error,
        }
    if transition.priority is not None:
        values["priority"] = transition.priority
    text = json.dumps(values)[:-1]
    if transition.workspace is not None:
        text += f',"workspace":{transition.workspace}'
    if transition.result is not None:
        text += f',"result":{transition.result}'
    if run is not None and run.changes is not None:
        text += f',"changes":{run.changes}'
    return text + "}"
