"""What a worker has claimed and not begun, which may stand there unread."""

from __future__ import annotations

import pytest

from django_dbq import Job
from django_dbq.store.base import Batch
from django_dbq.worker.backlog import Backlog

TRUSTED_UNTIL = 12.5


class Claim:
    """What a claim brought, which counts how often it was read."""

    def __init__(self, *jobs):
        self.jobs, self.reads = list(jobs), 0
        self.batch = Batch(len(jobs), self.read)

    def read(self):
        self.reads += 1
        return self.jobs


def job(priority=0, lost_attempts=0):
    made = Job(name="nothing", priority=priority, lost_attempts=lost_attempts)
    made.created = made._meta.get_field("created").pre_save(made, add=True)
    return made


def in_order(*priorities):
    return [job(priority) for priority in priorities]


@pytest.mark.parametrize(
    "need",
    [
        lambda backlog, jobs: [backlog.take(), backlog.take()],
        lambda backlog, jobs: backlog.read()[0],
        lambda backlog, jobs: sorted(
            backlog.discard({each.id for each in jobs}), key=lambda it: -it.priority
        ),
        lambda backlog, jobs: sorted(backlog.empty(), key=lambda it: -it.priority),
        lambda backlog, jobs: sorted(backlog.close(), key=lambda it: -it.priority),
    ],
    ids=["take", "read", "discard", "empty", "close"],
)
def test_a_claim_is_read_once_by_whoever_needs_it_first(need):
    backlog, claim = Backlog(), Claim(*in_order(2, 1))
    backlog.put_unread(claim.batch, TRUSTED_UNTIL)
    assert (len(backlog), claim.reads, backlog.is_read) == (2, 0, False)
    assert need(backlog, claim.jobs) == claim.jobs
    backlog.read()
    backlog.empty()
    assert (claim.reads, backlog.is_read) == (1, True)


def test_what_was_read_is_told_once():
    backlog, claim = Backlog(), Claim(*in_order(2, 1))
    backlog.put_unread(claim.batch, TRUSTED_UNTIL)
    backlog.take()
    assert backlog.read() == (claim.jobs, [])
    assert backlog.read() == ([], [])


def test_the_jobs_of_a_claim_are_trusted_for_as_long_as_it_was_put_in_for():
    backlog, claim = Backlog(), Claim(job())
    backlog.put_unread(claim.batch, TRUSTED_UNTIL)
    assert backlog.take().trusted_until == TRUSTED_UNTIL


def test_a_more_urgent_job_of_an_unread_claim_comes_before_what_waits():
    backlog, claim = Backlog(), Claim(job(priority=5))
    backlog.put([waiting := job(priority=1)])
    backlog.put_unread(claim.batch, TRUSTED_UNTIL)
    assert [backlog.take(), backlog.take()] == [*claim.jobs, waiting]


def test_of_several_jobs_that_may_have_killed_a_worker_none_is_put_in():
    first, second, good = job(9, lost_attempts=1), job(8, lost_attempts=1), job()
    backlog, claim = Backlog(), Claim(first, second, good)
    backlog.put_unread(claim.batch, TRUSTED_UNTIL)
    assert backlog.take() == good
    assert len(backlog) == 0 and backlog.read() == (claim.jobs, [first, second])


def test_a_single_job_that_may_have_killed_a_worker_comes_last():
    suspect, good = job(9, lost_attempts=1), job()
    backlog, claim = Backlog(), Claim(suspect, good)
    backlog.put_unread(claim.batch, TRUSTED_UNTIL)
    assert [backlog.take(), backlog.take()] == [good, suspect]
    assert backlog.read() == (claim.jobs, [])
