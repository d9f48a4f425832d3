"""Jobs claimed and not yet begun, most urgent first: the keeper fills it, the runner takes."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from typing import Any

from django_dbq.models import Job
from django_dbq.store.base import urgency


class Backlog:
    """A priority queue that can be closed, and emptied of what nobody has begun."""

    def __init__(self) -> None:
        self._heap: list[tuple[Any, Job]] = []
        self._ready = threading.Condition(threading.Lock())
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, jobs: Iterable[Job]) -> None:
        with self._ready:
            for job in jobs:
                heapq.heappush(self._heap, (_urgency(job), job))
            self._ready.notify(len(self._heap))

    def take(self) -> Job | None:
        """Return the most urgent job, waiting for one; None once the backlog is closed."""
        with self._ready:
            while not self._heap:
                if self._closed:
                    return None
                self._ready.wait()
            return heapq.heappop(self._heap)[1]

    def discard(self, ids: set[Any]) -> list[Job]:
        """Take out and return the jobs with these ids that nobody has begun."""
        with self._ready:
            gone = [job for _, job in self._heap if job.id in ids]
            if gone:
                self._heap = [entry for entry in self._heap if entry[1].id not in ids]
                heapq.heapify(self._heap)
            return gone

    def empty(self) -> list[Job]:
        """Take out and return every job that nobody has begun."""
        with self._ready:
            jobs = [job for _, job in self._heap]
            self._heap.clear()
            return jobs

    def close(self) -> list[Job]:
        """End all waiting; return the jobs that nobody has begun."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        return self.empty()


def _urgency(job: Job) -> tuple[Any, ...]:
    # Last of all what may have killed a worker: by then the others are recorded.
    return (job.lost_attempts > 0, *urgency(job), job.claim)
