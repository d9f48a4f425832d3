"""What any worker does for all: stage, wake and rescue, on a timer. Each is harmless when done twice."""

from __future__ import annotations

import logging
import time

from django_dbq import conf
from django_dbq.models import Job
from django_dbq.store import Store
from django_dbq.store.base import RESCUE_BATCH, STAGE_BATCH

logger = logging.getLogger("django_dbq.worker")


class Upkeep:
    """Runs on the keeper's connection, once a poll interval."""

    def __init__(self, store: Store, worker: str) -> None:
        self.store = store
        self.worker = worker
        self.due_at = time.monotonic()

    def run(self) -> tuple[bool, list[Job]]:
        """Return whether jobs became claimable, and those this worker now has to fail."""
        options = conf.options()
        self.due_at = time.monotonic() + options.POLL_INTERVAL_SECONDS
        staged = self.store.stage() + self.store.wake()
        ready, spent = self.store.rescue(
            worker=self.worker,
            lease_seconds=options.LEASE_SECONDS,
            lost_attempts_max=options.LOST_ATTEMPTS_MAX,
        )
        if ready or spent:
            logger.warning("Rescued: ready=%d failed=%d worker=%s", ready, len(spent), self.worker)
        if staged >= STAGE_BATCH or ready + len(spent) >= RESCUE_BATCH:
            self.due_at = time.monotonic()  # A full batch: there may be more.
        return bool(staged or ready), spent
