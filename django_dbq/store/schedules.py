"""Schedules: a few a second at most, and the same for every database."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    models,
)
from django.db.models.functions import Now

from django_dbq.engine.workflow import Workflow
from django_dbq.models import Schedule
from django_dbq.store.part import Part

FIRE_BATCH = 20  # Schedules; each of them up to CATCH_UP_MAX slots.
SCHEDULE_FAILURES_MAX = 5  # In a row, to fire; then the schedule is disabled.
SCHEDULE_PAUSE_SECONDS = 60  # After the first of them; after the second twice as long.
GONE = "disabled: no entry of JOBS declares it any more"


@dataclass(slots=True)
class Fired:
    """What a look at the schedules has done."""

    jobs: int = 0  # How many were created.
    more: bool = False  # Whether it is worth looking again at once.
    failed: list[Schedule] = field(default_factory=list)  # With the error; perhaps disabled now.


class Schedules(Part):
    """Fires what is due, and follows the schedules that JOBS declares."""

    def fire(
        self,
        now: datetime.datetime | None = None,
        fired: Fired | None = None,
        seconds: float = math.inf,
    ) -> Fired:
        """Create the jobs of schedules that are due, a bounded number, each in a transaction of its own.

        One that cannot be fired keeps no other from it: its error is noted, and it is tried again later.
        `fired` takes what has been done, and has it where an error of the database ends this early.
        After so many seconds, of which each has its share, what is left is for the next call.
        """
        fired = Fired() if fired is None else fired
        until = time.monotonic() + seconds
        clock: Any = now or (Now() if connections[self.using].vendor == "postgresql" else self.clock())
        not_later = models.Q(next_try__isnull=True) | models.Q(next_try__lte=clock)
        due = Schedule.objects.using(self.using).filter(not_later, enabled=True, next_run__lte=clock)
        found = list(due.order_by("next_run", "id").values_list("pk", flat=True)[:FIRE_BATCH])
        moment = (now or self.clock()) if found else None
        moved = 0
        for place, pk in enumerate(found):
            left = until - time.monotonic()
            if place and left <= 0:
                fired.more = True
                break
            assert moment is not None
            schedule, made = None, None
            try:
                with self.write():
                    # Looked at again under the lock: who had it before may have fired it.
                    schedule = self._locked_schedules(due.filter(pk=pk)).first()
                    if schedule is not None:
                        made = schedule.fire(moment, left / (len(found) - place))
            except (Exception, SystemExit) as error:  # A creation hook may even exit.
                # On SQLite a commit may find the database locked by somebody who reads.
                at_commit = made is not None and isinstance(error, OperationalError)
                if schedule is None or at_commit or not self._connected():
                    raise  # Not its fault.
                self._note_failure(pk, error, moment, fired)
            else:
                fired.jobs += made or 0
                moved += schedule is not None
                fired.more |= schedule is not None and schedule.is_due(moment)
        fired.more |= moved > 0 and len(found) == FIRE_BATCH
        return fired

    def _connected(self) -> bool:
        connection = connections[self.using]
        return connection.connection is not None and connection.is_usable()

    def _locked_schedules(self, schedules: models.QuerySet[Schedule]) -> models.QuerySet[Schedule]:
        skip = connections[self.using].features.has_select_for_update_skip_locked
        return schedules.select_for_update(skip_locked=skip)

    def _note_failure(self, pk: Any, error: BaseException, now: datetime.datetime, fired: Fired) -> None:
        with self.write():
            # If somebody has it locked, it is noted the next time.
            enabled = Schedule.objects.using(self.using).filter(pk=pk, enabled=True)
            schedule = self._locked_schedules(enabled).first()
            if schedule is not None:
                schedule.fail(error, now, pause_seconds=SCHEDULE_PAUSE_SECONDS, most=SCHEDULE_FAILURES_MAX)
                fired.failed.append(schedule)

    def declare(
        self, workflows: Iterable[Workflow], now: datetime.datetime | None = None
    ) -> list[tuple[str, Exception]]:
        """Make the schedules that entries of JOBS declare, and change them as the entries have changed.

        Those whose entry has gone are disabled. Harmless when done twice, or by two at once. Return the names
        of entries that their row cannot follow, each with the reason: they keep no other from it.
        """
        refused: list[tuple[str, Exception]] = []
        declared = {entry.name: entry for entry in workflows if entry.schedule is not None}
        rows = Schedule.objects.using(self.using).filter(declared__isnull=False)
        found = {row.declared: row for row in rows}
        for name, entry in declared.items():
            try:
                self._follow(found.pop(name, None), name, _declared(entry), now)
            except Exception as error:
                of_the_database = isinstance(error, (DatabaseError, InterfaceError))
                if of_the_database and not isinstance(error, (IntegrityError, DataError)):
                    raise  # Not the row's fault.
                # Another worker may have made the row of this name meanwhile.
                if not (isinstance(error, IntegrityError) and rows.filter(declared=name).exists()):
                    refused.append((name, error))
        for row in found.values():
            if row.enabled:
                rows.filter(pk=row.pk, enabled=True).update(enabled=False, error=GONE)
        return refused

    def _follow(
        self, row: Schedule | None, name: str, values: dict[str, Any], now: datetime.datetime | None
    ) -> None:
        """Make the row of an entry, or change it where it is not as the entry says."""
        as_it_says = all(getattr(row, key, None) == value for key, value in values.items())
        if row is not None and row.error != GONE and as_it_says:
            return
        with self.write():
            if row is not None:  # It may be deleted meanwhile.
                row = Schedule.objects.using(self.using).select_for_update().filter(pk=row.pk).first()
            if row is None:
                row = Schedule(declared=name, next_run=now or self.clock())
            for key, value in values.items():
                setattr(row, key, value)
            if row.error == GONE:
                row.enabled = True
            row.save(using=self.using)


def _declared(entry: Workflow) -> dict[str, Any]:
    """Return the columns of the schedule that an entry of JOBS declares."""
    declared = entry.schedule
    assert declared is not None
    return {
        "name": entry.name,
        "path": entry.name,
        "kind": Schedule.KINDS.CRON.value,
        "cron": declared.cron,
        "time_zone": declared.time_zone,
        "catch_up": declared.catch_up,
        "no_overlap": declared.no_overlap,
        "date_keyword": declared.date_keyword,
        "workspace": declared.workspace,
    }
