"""One function call run here and now, by the caller instead of a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction

from django_dbq import calls, conf
from django_dbq.engine.lifecycle import DUE_STATES
from django_dbq.exceptions import DBQError
from django_dbq.models import Job
from django_dbq.store import get_store
from django_dbq.worker.executor import Attempt, Executor

WORKER = "execute"


def execute(job: Job, using: str) -> Any:
    """Run a function call in a transaction of its own; return its result, or raise its error.

    The row stays locked from the claim to the record, so no lease has to be renewed and
    a process that dies leaves the job as it was.
    """
    if job.call is None:
        raise DBQError(f"job {job.pk} ({job.name}) is no function call; a worker runs its tasks")
    store, lease_seconds = get_store(using), conf.options().LEASE_SECONDS
    with _own_transaction(job, using):
        claimed = store.claim_by_id([job.pk], worker=WORKER, lease_seconds=lease_seconds)
        if not claimed:
            state = Job.objects.using(using).filter(pk=job.pk).values_list("state", flat=True).first()
            why = f"it is {state or 'deleted'}"
            if state in DUE_STATES:
                why = "another transaction holds its row"
            raise DBQError(f"job {job.pk} ({job.name}) does not wait to be run: {why}")
        attempt = _run(claimed[0], using)
    if attempt.error is not None:
        raise attempt.error
    return calls.value_of(claimed[0])


def run_now(create: Callable[[], list[Job]], using: str) -> None:
    """Create function calls and run them, and what follows them in chains, in one transaction.

    Until it commits no worker sees them. Within an `atomic` block it is the caller's, and what is
    recorded of a failure is undone with it. Raises the first error, once everything is recorded.
    """
    store, lease_seconds = get_store(using), conf.options().LEASE_SECONDS
    errors = []
    with store.write():
        created = create()
        waiting = [job.pk for job in created]
        groups = {job.group_id for job in created if job.group_id is not None}
        while waiting:
            pk = waiting.pop(0)
            if groups:
                store.wake(groups)  # The final job of a group comes after the others.
            for job in store.claim_by_id([pk], worker=WORKER, lease_seconds=lease_seconds):
                attempt = _run(job, using)
                if attempt.error is not None:
                    errors.append(attempt.error)
                elif (follower := attempt.transition.follower) is not None:
                    waiting.append(follower.pk)
    if errors:
        raise errors[0]


def _run(job: Job, using: str) -> Attempt:
    """Run a claimed job once, and record what became of it."""
    store = get_store(using)
    attempt = Executor(using, WORKER).run(job)
    if attempt.recorded is None:
        lease_seconds = conf.options().LEASE_SECONDS
        store.record([attempt.transition], worker=WORKER, lease_seconds=lease_seconds)
    if attempt.unwanted:
        store.discard([job.pk])
    return attempt


@contextmanager
def _own_transaction(job: Job, using: str) -> Iterator[None]:
    connection = connections[using]
    by_hand = not connection.in_atomic_block and not connection.get_autocommit()
    with ExitStack() as stack:
        try:
            if by_hand:
                raise RuntimeError("the caller commits")
            # Django knows the blocks that tests stand in, and counts only others.
            stack.enter_context(transaction.atomic(using=using, durable=True))
        except RuntimeError:
            raise DBQError(
                f"job {job.pk} ({job.name}) cannot be executed within an atomic block: its failure could"
                " not be recorded apart from yours, nor its success kept if yours is rolled back. Call"
                " execute() outside of it, or leave the job to a worker: it runs once you have committed."
            ) from None
        yield
