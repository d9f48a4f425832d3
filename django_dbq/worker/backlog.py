"""Jobs claimed and not yet begun, most urgent first: the keeper fills it, the runner takes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from django_dbq.models import Job
from django_dbq.store.base import Batch


class Backlog:
    """A priority queue that can be closed, and emptied of what nobody has begun.

    What a claim brought may be put in unread. Whoever needs it first reads it: most often a thread that
    has no job, while the keeper waits for the database.
    """

    def __init__(self) -> None:
        # The most urgent last. What a claim brings is in order: to merge two runs is a comparison a job.
        self._jobs: list[tuple[Any, Job]] = []
        self._unread: tuple[Batch, float] | None = None
        self._read: list[Job] = []  # Since `read` was asked last.
        self._aside: list[Job] = []  # Of these, what was not put in.
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._closed = False

    def __len__(self) -> int:
        unread = self._unread
        return len(self._jobs) + (0 if unread is None else unread[0].size)

    @property
    def is_read(self) -> bool:
        """Whether instances stand for all jobs in here."""
        return self._unread is None

    def put(self, jobs: Iterable[Job]) -> None:
        with self._lock:
            self._put(jobs)

    def put_unread(self, batch: Batch, trusted_until: float) -> None:
        """Put in what a claim brought, whose leases are trusted until this monotonic time.

        Of several jobs that may have killed a worker none is put in: one might take the others with it.
        """
        with self._lock:
            self._read_all()
            self._unread = batch, trusted_until
            self._ready.notify(batch.size)

    def read(self) -> tuple[list[Job], list[Job]]:
        """Return the jobs that came unread since this was called last, whoever has read them.

        The second list holds those among them that were not put in: all but one are to be given back first.
        """
        with self._lock:
            self._read_all()
            read, self._read = self._read, []
            aside, self._aside = self._aside, []
            return read, aside

    def take(self) -> Job | None:
        """Return the most urgent job, waiting for one; None once the backlog is closed."""
        with self._lock:
            while True:
                if self._unread is not None:
                    self._read_all()
                if self._jobs:
                    return self._jobs.pop()[1]
                if self._closed:
                    return None
                self._ready.wait()

    def discard(self, ids: set[Any]) -> list[Job]:
        """Take out and return the jobs with these ids that nobody has begun."""
        with self._lock:
            self._read_all()
            gone = [job for _, job in self._jobs if job.id in ids]
            if gone:
                self._jobs = [entry for entry in self._jobs if entry[1].id not in ids]
            return gone

    def empty(self) -> list[Job]:
        """Take out and return every job that nobody has begun."""
        with self._lock:
            self._read_all()
            jobs = [job for _, job in self._jobs]
            self._jobs.clear()
            return jobs

    def close(self) -> list[Job]:
        """End all waiting; return the jobs that nobody has begun."""
        with self._lock:
            self._closed = True
            self._ready.notify_all()
        return self.empty()

    def _put(self, jobs: Iterable[Job]) -> None:
        # Last of all what may have killed a worker: by then the others are recorded.
        self._jobs += [((job.lost_attempts > 0, job._urgency, job.claim), job) for job in jobs]
        self._jobs.sort(key=itemgetter(0), reverse=True)
        self._ready.notify(len(self._jobs))

    def _read_all(self) -> None:
        if self._unread is None:
            return
        (batch, trusted_until), self._unread = self._unread, None
        jobs = batch.read()
        for job in jobs:
            job.trusted_until = trusted_until
        self._read += jobs
        suspects = [job for job in jobs if job.lost_attempts]
        if len(suspects) > 1:
            self._aside += suspects
            jobs = [job for job in jobs if not job.lost_attempts]
        self._put(jobs)
