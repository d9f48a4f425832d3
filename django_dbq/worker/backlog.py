"""Jobs claimed and not yet begun, most urgent first: the keeper fills it, the runner takes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from django_dbq.models import Job


class Backlog:
    """A priority queue that can be closed, and emptied of what nobody has begun."""

    def __init__(self) -> None:
        # The most urgent last. What a claim brings is in order: to merge two runs is a comparison a job.
        self._jobs: list[tuple[Any, Job]] = []
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, jobs: Iterable[Job]) -> None:
        with self._lock:
            # Last of all what may have killed a worker: by then the others are recorded.
            self._jobs += [((job.lost_attempts > 0, job._urgency, job.claim), job) for job in jobs]
            self._jobs.sort(key=itemgetter(0), reverse=True)
            self._ready.notify(len(self._jobs))

    def take(self) -> Job | None:
        """Return the most urgent job, waiting for one; None once the backlog is closed."""
        with self._lock:
            while not self._jobs:
                if self._closed:
                    return None
                self._ready.wait()
            return self._jobs.pop()[1]

    def discard(self, ids: set[Any]) -> list[Job]:
        """Take out and return the jobs with these ids that nobody has begun."""
        with self._lock:
            gone = [job for _, job in self._jobs if job.id in ids]
            if gone:
                self._jobs = [entry for entry in self._jobs if entry[1].id not in ids]
            return gone

    def empty(self) -> list[Job]:
        """Take out and return every job that nobody has begun."""
        with self._lock:
            jobs = [job for _, job in self._jobs]
            self._jobs.clear()
            return jobs

    def close(self) -> list[Job]:
        """End all waiting; return the jobs that nobody has begun."""
        with self._lock:
            self._closed = True
            self._ready.notify_all()
        return self.empty()
