"""What any worker does for all: stage, wake and rescue, on a timer. Each is harmless when done twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from django.db import router

from django_dbq import conf
from django_dbq.engine.workflow import Workflow
from django_dbq.models import Job, Schedule
from django_dbq.redaction import redact_text
from django_dbq.store import Store
from django_dbq.store.base import RESCUE_BATCH, STAGE_BATCH, in_order
from django_dbq.store.groups import WAKE_BATCH
from django_dbq.store.pruning import TRIM_BATCH
from django_dbq.store.schedules import Fired
from django_dbq.worker.settings import WorkerSettings

logger = logging.getLogger("django_dbq.worker")

NAMED_MAX = 10  # Jobs that one line names.
FIRE_LEASES = 0.1  # For so much of a lease one round fires schedules.
TRIM_SECONDS = 60.0
WAKE_SECONDS = 0.02  # For more of a group's jobs to end meanwhile.


class Upkeep:
    """Runs on the keeper's connection, once a poll interval."""

    def __init__(self, store: Store, worker: str, settings: WorkerSettings) -> None:
        self.store = store
        self.worker = worker
        self.settings = settings
        self.may_rescue: Callable[[], bool] = lambda: True
        self.held: Callable[[], Collection[Any]] = tuple  # The ids of the worker's own jobs.
        self.due_at = time.monotonic()
        self.wake_at = float("inf")  # Sooner, for the groups that may be done.
        self.paused: frozenset[str] = frozenset()  # Queues from which nothing is to be claimed.
        self.resumed = False  # Perhaps: one of them has news.
        self._trim_at = time.monotonic()
        self._ended: set[Any] = set()
        self._declared: dict[str, Workflow] | None = None  # The workflows whose schedules are rows.

    @property
    def wake_owed(self) -> bool:
        """Whether a job of a group has ended, and nobody here has looked at the group since."""
        return bool(self._ended)

    def ended(self, group_id: Any) -> None:
        """Note that a job of a group has ended: a final job may wait for it."""
        self._ended.add(group_id)
        self.wake_at = min(self.wake_at, time.monotonic() + WAKE_SECONDS)

    def wake(self) -> bool:
        """Look at the groups of jobs that have ended; return whether a final job became claimable."""
        woken = self.store.wake(self._ended)
        self._ended, self.wake_at = set(), float("inf")
        return bool(woken)

    def look_at_pauses(self) -> None:
        """Read which queues are paused."""
        self._note_pauses(self.store.paused())

    def run(self) -> tuple[bool, list[Job]]:
        """Return whether jobs became claimable, and those this worker now has to fail."""
        options = conf.options()
        began = time.monotonic()
        self._declare()
        # On a slow network each statement counts, and most rounds find nothing to do.
        news = self.store.news()
        self._note_pauses(news.paused)
        fired = self._fire() if news.schedules_due else Fired()
        staged = self.store.stage() if news.unstaged else 0
        woken = self.store.wake() if news.waiting else 0
        self._ended, self.wake_at = set(), float("inf")
        self._trim(options.SAVE_LIMIT)
        # Last: what it answers must reach the keeper, and an error would have all of this run again.
        ready: list[Job] = []
        spent: list[Job] = []
        if news.expired and self.may_rescue():
            ready, spent = self.store.rescue(
                worker=self.worker,
                lease_seconds=options.LEASE_SECONDS,
                lost_attempts_max=options.LOST_ATTEMPTS_MAX,
                held=self.held(),
            )
        if ready or spent:
            counts = len(ready), len(spent)
            named = _named([*ready, *spent])
            logger.warning("Rescued: ready=%d failed=%d worker=%s jobs=%s", *counts, self.worker, named)
        # On a slow network it takes long: then half of the time is left for the jobs.
        self.due_at = max(began + options.POLL_INTERVAL_SECONDS, 2 * time.monotonic() - began)
        full = len(ready) + len(spent) >= RESCUE_BATCH
        if full or staged >= STAGE_BATCH or woken >= WAKE_BATCH or fired.more:
            self.due_at = time.monotonic()  # A full batch: there may be more.
        return bool(staged or woken or ready or fired.jobs), spent

    def _note_pauses(self, paused: frozenset[str]) -> None:
        before, self.paused, self.resumed = self.paused, paused, False
        served = self.settings.queue_names
        if begun := (paused - before).intersection(served):
            logger.info("Paused: queues=%s worker=%s", ",".join(sorted(begun)), self.worker)
        if ended := (before - paused).intersection(served):
            logger.info("Resumed: queues=%s worker=%s", ",".join(sorted(ended)), self.worker)

    def _trim(self, kept: int) -> None:
        """Delete the successes that nobody wants to keep, now and then."""
        own = self.settings.save_limit
        if (kept or own) and time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + TRIM_SECONDS
            gone = [0]
            if kept:
                gone.append(self.store.trim(kept))
            if own:
                queues, per = self.settings.queue_names, self.settings.save_limit_per
                gone.append(self.store.trim_queues(queues, own, per))
            if max(gone) >= TRIM_BATCH:
                self._trim_at = time.monotonic()  # A full batch: there may be more.

    def _declare(self) -> None:
        """Make the schedules of JOBS rows, once; where a router sends them, if it is here."""
        workflows = conf.workflows()
        if workflows is not self._declared and router.db_for_write(Schedule) == self.store.using:
            for name, error in self.store.declare(workflows.values()):
                reason = redact_text(f"{type(error).__name__}: {error}")
                logger.error("Schedule not declared: name=%s %s", name, reason)
        self._declared = workflows

    def _fire(self) -> Fired:
        fired = Fired()
        try:
            # Creation hooks run in it: meanwhile no lease is renewed, and nothing recorded.
            return self.store.fire(fired=fired, seconds=FIRE_LEASES * conf.options().LEASE_SECONDS)
        finally:  # Noted once, they are to be heard of, whatever became of the rest.
            for schedule in fired.failed:
                error = redact_text(schedule.error or "")
                if schedule.enabled:
                    logger.warning("Schedule failed: schedule=%s name=%s %s", schedule.pk, schedule, error)
                else:
                    logger.error("Schedule disabled: schedule=%s name=%s %s", schedule.pk, schedule, error)


def _named(jobs: list[Job]) -> str:
    """Return the first of these jobs by id and name: those that most likely killed their worker.

    Those were lost most often, or stood first among what it had claimed: that one ran.
    """
    first = sorted(in_order(jobs), key=lambda job: -job.lost_attempts)[:NAMED_MAX]
    more = [f"and {len(jobs) - NAMED_MAX} more"] if len(jobs) > NAMED_MAX else []
    return ", ".join([*(f"{job.id} {job.name}" for job in first), *more])
