"""A place where one task runs at a time: what the keeper may know of it from another thread."""

from __future__ import annotations

import sys
import threading
import time

from django_dbq.models import Job
from django_dbq.worker.errors import stack_of


class Slot:
    """One task thread's. Written by that thread, read by the keeper."""

    def __init__(self) -> None:
        self._present: tuple[Job, float] | None = None  # With its monotonic time of beginning.
        self._thread: int | None = None

    def enter(self, job: Job) -> None:
        self._thread = threading.get_ident()
        self._present = job, time.monotonic()

    def leave(self) -> None:
        self._present = None

    def seconds(self) -> float:
        """Return how long the present task has run; 0 when there is none."""
        present = self._present
        return 0.0 if present is None else time.monotonic() - present[1]

    def overdue(self) -> tuple[Job, float] | None:
        """Return the present job, and by how many seconds its task has passed its time limit."""
        present = self._present
        if present is None:
            return None
        job, began = present
        limit = job.timeout_seconds
        over = time.monotonic() - began - limit if limit is not None else 0.0
        return (job, over) if over > 0 else None

    def hangs(self) -> tuple[float, str]:
        """Return since when the present task has run, a monotonic time, and the stack of its thread."""
        present, frame = self._present, sys._current_frames().get(self._thread or 0)
        began = time.monotonic() if present is None else present[1]
        return began, "" if frame is None else stack_of(frame)
