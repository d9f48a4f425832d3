"""What a project's own tests use: run due jobs here and now, without a worker."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db import router
from django.utils import timezone

from django_dbq import conf
from django_dbq.exceptions import DBQError
from django_dbq.models import Job
from django_dbq.store import get_store
from django_dbq.worker.executor import Executor

WORKER = "run_jobs"
ATTEMPTS_MAX = 1_000  # Of one job in one call: more, and it goes round in a circle.


def run_jobs(*queue_names: str, limit: int | None = None, database: str | None = None) -> int:
    """Run due jobs in this process until none is left; return how many jobs ran.

    Jobs created by the tasks that run are run too. Without a queue's name every
    queue is served. `limit` bounds the number of jobs begun. What is due is told
    by `timezone.now()`, so freezegun decides it. Everything happens on the
    connection of the test, inside its transaction.
    """
    using = database or router.db_for_write(Job)
    store = get_store(using)
    executor = Executor(using, WORKER)
    options = conf.options()
    begun: Counter[Any] = Counter()
    while True:
        now = timezone.now()
        while store.fire(now).more:
            pass
        store.stage(now=now)
        store.wake()
        names = queue_names or tuple(Job.get_queue_depths(using=using))
        jobs = store.claim(names, worker=WORKER, limit=1, lease_seconds=options.LEASE_SECONDS, now=now)
        if not jobs:
            return len(begun)
        job = jobs[0]
        if job.id not in begun and limit is not None and len(begun) >= limit:
            store.release([job], worker=WORKER, now=now)
            return len(begun)
        attempt = executor.run(job)
        if attempt.transition.outcome != "parked":
            begun[job.id] += 1
        if begun[job.id] > ATTEMPTS_MAX:
            raise DBQError(f"job {job.id} ({job.name}) began {ATTEMPTS_MAX} tasks and has not ended")
        if attempt.recorded is None:
            store.record(
                [attempt.transition],
                worker=WORKER,
                lease_seconds=options.LEASE_SECONDS,
                now=timezone.now(),
            )
        if attempt.unwanted:
            store.discard([job.id])
