"""The store for PostgreSQL: one statement a verb, each a file in sql/."""

from __future__ import annotations

import datetime
import json
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.models.functions import Now
from django.utils import timezone

from django_dbq.engine.lifecycle import DUE_STATES, FINISHED_STATES, HELD_STATES, State, Transition
from django_dbq.models import Job, uuid7
from django_dbq.store import base, insertion
from django_dbq.store.base import AWAITED_SECONDS
from django_dbq.store.drivers import readable

CHANNEL = "django_dbq"
ENDED_CHANNEL = "django_dbq_ended"
AWAITED = "?"  # Before the id of a job, on the workers' channel: somebody waits for its end.

KEEPALIVE_SECONDS_MAX = 32_767  # With more, Linux refuses the connection.

COUNT_PAGES = 500  # Of the job table: all of it, or a sample.
COUNT_MAX = 2_000  # More jobs than these are not looked up one by one: each may be a page to read.
# Each is counted through an index of its own.
COUNTED_TOGETHER = (DUE_STATES, (State.WAITING,), HELD_STATES, *((state,) for state in FINISHED_STATES))
HEADS_MAX = 1_000  # Pairs of queue and priority that are looked at.
# What a claim makes of every job: it need not be sent.
_CLAIMED = {
    "state": State.PROCESSING.value,
    "staged": True,
    "cancel_requested": False,  # Of one that waits it never is: that ends at once.
    "finished": None,
}


@cache
def statement(verb: str) -> str:
    """Return the statement of `verb`, tagged with its name for logs and pg_stat_activity."""
    text = _text(verb)
    if "{taken}" in text:
        text = text.replace("{taken}", _text("taken"))
    return f"/* dbq:{verb.removesuffix('_one')} */ {text}"


def _text(name: str) -> str:
    text = (Path(__file__).parent / "sql" / f"{name}.sql").read_text()
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


class PostgresStore(base.Store):
    def prepare_connection(self, lease_seconds: float, pooled: bool = False) -> None:
        connection = connections[self.using]
        half = max(1, int(lease_seconds / 2))
        keepalive = min(max(1, half // 3), KEEPALIVE_SECONDS_MAX)
        defaults = {
            "connect_timeout": max(2, half),  # libpq takes no less.
            "keepalives_idle": keepalive,
            "keepalives_interval": keepalive,
            "keepalives_count": 1,
            "tcp_user_timeout": half * 1_000,
            "fallback_application_name": f"django_dbq {os.getpid()}",  # Where the project gives none.
        }
        # This thread's own copy: other connections of the project stay as they are.
        options = {**defaults, **connection.settings_dict.get("OPTIONS", {})}
        if not pooled:
            options.pop("pool", None)
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}

    def prepare_session(self, lease_seconds: float) -> None:
        # On a table that was never analyzed the planner would scan it to find the rows
        # of a record; the engine's statements name their rows by key or by index.
        # No statement is worth waiting for longer than a lease lasts; a lock that another holds, not even
        # that: other jobs are to be recorded. But for longer than the server takes to find a deadlock.
        milliseconds = int(lease_seconds * 500)
        with connections[self.using].cursor() as cursor:
            cursor.execute(
                "SET enable_seqscan = off;"
                f" SET statement_timeout = {milliseconds};"
                f" SET lock_timeout = {min(2_000, milliseconds // 2)}"
            )

    def announce(self, queue_names: Collection[str]) -> None:
        connection = connections[self.using]
        if not connection.in_atomic_block and not connection.get_autocommit():
            return  # The caller commits by hand, when Django cannot tell. Polling finds the jobs.
        # One NOTIFY a transaction, however many jobs it creates: each creation asks for
        # one, the first to run after the commit sends all names, the others find none.
        pending: set[str] = connection.__dict__.setdefault("_dbq_announce", set())
        pending.update(queue_names)

        def notify() -> None:  # No partial: Django logs a failure by the function's name.
            self._notify(pending)

        transaction.on_commit(notify, using=self.using, robust=True)

    def _notify(self, pending: set[str]) -> None:
        names = sorted(pending)
        pending.clear()
        if names:
            self._run("announce", {"channel": CHANNEL, "names": names})

    @contextmanager
    def listening(self, job_ids: Collection[Any]) -> Iterator[Callable[[float], None]]:
        # On a connection of its own: what a driver receives during a statement it may drop.
        connection = connections[self.using].copy()
        connection.settings_dict["OPTIONS"].pop("pool", None)  # Whoever had it next would listen too.
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {ENDED_CHANNEL}")
        except DatabaseError:
            connection.close()
            yield time.sleep  # There may be no connection left.
            return
        asked_at = 0.0
        raw, wanted = connection.connection, {job_id.hex for job_id in job_ids}

        def pause(seconds: float) -> None:
            nonlocal asked_at
            until = time.monotonic() + seconds
            if time.monotonic() >= asked_at + AWAITED_SECONDS / 2:
                asked_at = time.monotonic()
                names = [f"{AWAITED}{job_id}" for job_id in wanted]
                self._run("announce", {"channel": CHANNEL, "names": names})
            with connection.wrap_database_errors:  # Read below Django.
                while wanted.isdisjoint(received(raw)) and (left := until - time.monotonic()) > 0:
                    readable([raw], left)

        try:
            yield pause
        finally:
            connection.close()

    def tell_ended(self, job_ids: Collection[Any]) -> None:
        self._run("announce", {"channel": ENDED_CHANNEL, "names": [job_id.hex for job_id in job_ids]})

    def insert(self, job: Job) -> bool | None:
        return insertion.insert(self.using, job, CHANNEL)

    def enqueue_many(self, alike: Job, workspaces: Sequence[str]) -> list[uuid.UUID]:
        ids = [uuid7() for _ in workspaces]
        values = {
            "ids": _array([each.hex for each in ids]),
            "workspaces": _text_array(workspaces),
            "name": alike.name,
            "next_task": alike.next_task,
            "plan": json.dumps(alike.plan),
            "queue_name": alike.queue_name,
            "priority": alike.priority,
            "run_after": alike.run_after,
            "staged": alike.staged,
            "now": timezone.now(),
        }
        self._run("enqueue_many", values)
        return ids

    def claim(
        self,
        queue_names: Sequence[str],
        *,
        worker: str,
        limit: int,
        lease_seconds: float,
        now: datetime.datetime | None = None,
    ) -> list[Job]:
        return self._claim(queue_names, worker, limit, lease_seconds, now).read()

    def claim_unread(
        self, queue_names: Sequence[str], *, worker: str, limit: int, lease_seconds: float
    ) -> base.Batch:
        batch = self._claim(queue_names, worker, limit, lease_seconds, None)
        if Job.creation_is_heard():  # Whoever listens to the making of instances may use the database.
            jobs = batch.read()
            return base.Batch(len(jobs), lambda: jobs)
        return batch

    def _claim(
        self,
        queue_names: Sequence[str],
        worker: str,
        limit: int,
        lease_seconds: float,
        now: datetime.datetime | None,
    ) -> base.Batch:
        values = {"worker": worker, "limit": limit, "lease": lease_seconds, "now": now}
        names = list(dict.fromkeys(queue_names))
        if len(names) == 1:
            return self._claimed("claim_one", {**values, "queue_name": names[0]})
        return self._claimed("claim", {**values, "queue_names": names})

    def claim_by_id(
        self, job_ids: Collection[Any], *, worker: str, lease_seconds: float, only_due: bool = False
    ) -> list[Job]:
        values = {"ids": list(job_ids), "only_due": only_due, "now": None}
        values |= {"worker": worker, "lease": lease_seconds}
        return self._claimed("claim_by_id", values).read()

    def _record(
        self,
        transitions: Sequence[Transition],
        *,
        worker: str,
        lease_seconds: float,
        now: datetime.datetime | None,
    ) -> dict[Any, str]:
        if len(transitions) == 1:
            values = columns_of_one(transitions[0], time.monotonic(), worker, lease_seconds)
            return self._pairs("record_one", {**values, "now": now})
        values = columns(transitions, time.monotonic())
        rows = self._rows("record", {**values, "worker": worker, "lease": lease_seconds, "now": now})
        ids = [each.job_id for each in transitions]
        return {ids[place - 1]: state for state, places in rows for place in places}

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

    def retry(self, job_ids: Collection[Any], *, from_start: bool = False, stuck: bool = False) -> set[Any]:
        rows = self._rows("retry", {"ids": list(job_ids), "from_start": from_start, "stuck": stuck})
        self.wake()
        return {pk for (pk,) in rows}

    def stage(self, *, now: datetime.datetime | None = None) -> int:
        return self._run("stage", {"now": now, "limit": base.STAGE_BATCH})

    def rescue(
        self,
        *,
        worker: str,
        lease_seconds: float,
        lost_attempts_max: int,
        held: Collection[Any] = (),
        now: datetime.datetime | None = None,
    ) -> tuple[list[Job], list[Job]]:
        values = {
            "worker": worker,
            "held": list(held),
            "lease": lease_seconds,
            "lost_attempts_max": lost_attempts_max,
            "now": now,
            "limit": base.RESCUE_BATCH,
        }
        jobs = Job.from_rows(self.using, *self._table("rescue", values), {}, {})
        spent = [job for job in jobs if job.claimed_by is not None]
        return [job for job in jobs if job.claimed_by is None], spent

    def news(self) -> base.News:
        [(paused, *found)] = self._rows("news", {})
        return base.News(frozenset(paused), *found)

    def expire(self, workers: Collection[str]) -> int:
        return self._run("expire", {"workers": list(workers)})

    def clock(self) -> datetime.datetime:
        with connections[self.using].cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            now: datetime.datetime = cursor.fetchone()[0]
            return now

    def _moment(self) -> Now:
        return Now()  # To ask for it would be another round trip.

    def count(self) -> base.Counts:
        limit = COUNT_MAX + 1
        rows = self._rows("count", {"pages": COUNT_PAGES, "limit": limit, "many": 2 * COUNT_MAX})
        counts = base.Counts()
        for how, *row in rows:
            if how in ("all", "stray"):
                counts.add(*row)
            if how == "stray":
                counts.estimated.add(row[0])
        for states in COUNTED_TOGETHER:
            found, sample = (
                [row for how, *row in rows if how == kind and row[0] in states]
                for kind in ("found", "sample")
            )
            # One snapshot: what is sampled and not found was not looked for, there being many.
            if _total(found) >= limit or (sample and not found):
                found = max(found, sample, key=_total)  # Mostly empty pages make a poor sample.
                counts.estimated.update(states)
            for row in found:
                counts.add(*row)
        return counts

    def oldest_due(self) -> datetime.datetime | None:
        since: datetime.datetime | None = self._rows("oldest_due", {"limit": HEADS_MAX})[0][0]
        return since

    def _prune_batch(
        self,
        before: datetime.datetime,
        *,
        since: datetime.datetime | None,
        states: Collection[str],
        limit: int,
    ) -> list[tuple[str, datetime.datetime]]:
        names = [str(state) for state in states]
        return self._rows("prune", {"before": before, "since": since, "states": names, "limit": limit})

    def _run(self, verb: str, values: dict[str, Any]) -> int:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement(verb), values)
            return int(cursor.rowcount)

    def _pairs(self, verb: str, values: dict[str, Any]) -> dict[Any, Any]:
        return dict(self._rows(verb, values))

    def _rows(self, verb: str, values: dict[str, Any]) -> list[Any]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement(verb), values)
            rows: list[Any] = cursor.fetchall()
            return rows

    def _claimed(self, verb: str, values: dict[str, Any]) -> base.Batch:
        names, rows = self._table(verb, values)
        if not rows:
            return base.Batch(0, list)
        moment = names.index("modified")
        # A trigger of somebody's may have kept the first row, which has it, from being taken.
        at = next((row[moment] for row in rows if row[moment] is not None), None) or self.clock()
        lease_until = at + datetime.timedelta(seconds=values["lease"])
        settled = {**_CLAIMED, "claimed_by": values["worker"], "lease_until": lease_until}
        unsent = {"modified": at, "started": at}

        def read() -> list[Job]:
            # The planner may join the claimed rows in any order.
            return base.in_order(Job.from_rows(self.using, names, rows, settled, unsent))

        return base.Batch(len(rows), read)

    def _table(self, verb: str, values: dict[str, Any]) -> tuple[list[str], list[Any]]:
        """Run a statement; return the names of its columns, and its rows."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement(verb), values)
            return [column[0] for column in cursor.description], cursor.fetchall()


def received(raw: Any) -> list[str]:
    """Return what a connection that listens was told since the last call, through either driver."""
    if hasattr(raw, "pgconn"):  # psycopg 3
        raw.pgconn.consume_input()
        names = []
        while (notice := raw.pgconn.notifies()) is not None:
            names.append(notice.extra.decode())
        return names
    raw.poll()
    names = [notice.payload for notice in raw.notifies]
    raw.notifies.clear()
    return names


def _total(rows: list[Any]) -> int:
    return sum(number for _, _, number, _ in rows)


# What of a transition, and of its run, is mostly the same for many: record.sql reads it once for each kind.
_KIND = (
    *("state", "next_task", "position", "attempt", "lost_attempts", "priority", "delay", "error", "hold"),
    *("task", "run_position", "run_attempt", "outcome", "run_error"),
)
_NOTHING_RAN = (None,) * 5


def columns(transitions: Sequence[Transition], sent: float) -> dict[str, str | None]:
    """Return what record.sql reads of transitions, as text, which both drivers send alike."""
    kinds: dict[tuple[Any, ...], int] = {}
    numbers, ages, lengths, changes = [], [], [], []
    for each in transitions:
        run = each.run
        ran = _NOTHING_RAN if run is None else (run.task, run.position, run.attempt, run.outcome, run.error)
        kind = (
            *(each.state, each.next_task, each.position, each.attempt, each.lost_attempts, each.priority),
            *(each.delay_seconds, each.error, each.hold, *ran),
        )
        numbers.append(kinds.setdefault(kind, len(kinds)))
        # Microseconds: a whole number is written and read several times as fast as a float.
        ages.append("NULL" if run is None else int(1e6 * (sent - run.began)))
        lengths.append("NULL" if run is None else int(1e6 * run.seconds))
        changes.append(None if run is None else run.changes)
    described = [
        dict(zip(_KIND, kind, strict=True), number=number, finished=kind[0] in FINISHED_STATES)
        for kind, number in kinds.items()
    ]
    return {
        "ids": _array([each.job_id.hex for each in transitions]),
        "claims": _array([each.claim for each in transitions]),
        "numbers": _array(numbers),
        "ages": _array(ages),
        "lengths": _array(lengths),
        "workspaces": _text_array([each.workspace for each in transitions]),
        "results": _text_array([each.result for each in transitions]),
        "changes": _text_array(changes),
        "kinds": json.dumps(described),
    }


def columns_of_one(transition: Transition, sent: float, worker: str, lease_seconds: float) -> dict[str, Any]:
    """Return what record_one.sql reads of a transition."""
    run, hold, delay = transition.run, transition.hold, transition.delay_seconds
    task, position, attempt, outcome, error = (
        _NOTHING_RAN if run is None else (run.task, run.position, run.attempt, run.outcome, run.error)
    )
    return {
        "id": transition.job_id.hex,
        "claim": transition.claim,
        "worker": worker,
        "state": transition.state.value,
        "state_if_cancelled": (transition.state if transition.finished else State.CANCELLED).value,
        "next_task": transition.next_task,
        "position": transition.position,
        "attempt": transition.attempt,
        "lost_attempts": transition.lost_attempts,
        "priority": transition.priority,
        "next_claim": transition.claim + hold,
        "next_worker": worker if hold else None,
        "lease": lease_seconds if hold else None,
        "delay": delay,
        "staged": not delay or delay < 0,
        "finished": transition.finished,
        "workspace": transition.workspace,
        "result": transition.result,
        "error": transition.error,
        "task": task,
        "run_position": position,
        "run_attempt": attempt,
        "outcome": outcome,
        "run_error": error,
        "began": None if run is None else int(1e6 * (sent - run.began)),
        "ended": None if run is None else int(1e6 * (sent - run.began - run.seconds)),
        "changes": None if run is None else run.changes,
    }


def _array(values: Iterable[Any]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def _text_array(values: Sequence[str | None]) -> str | None:
    """Return texts as the literal of an array. None, which unnest takes for nulls, stands for no text."""
    if not any(values):
        return None
    return _array("NULL" if text is None else f'"{_escaped(text)}"' for text in values)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
