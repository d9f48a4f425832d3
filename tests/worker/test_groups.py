"""The final job of a group on real workers: once, last, and within moments, without waiting for a poll."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from django_dbq import Job, TaskRun, schedule
from django_dbq.models import Group
from tests.models import Row
from tests.worker import calls
from tests.worker.conftest import ASLEEP


def a_group(reference, count, **final):
    """Create a group of calls that leave a row each, and a final one that counts the rows."""
    group = Group.objects.create(reference=reference)
    for number in range(count):
        schedule(calls.leave, [f"{reference} {number}"], group=group)
    job = schedule(calls.count, [reference], priority=100, **final)
    group.on_completion(job)
    return job


def assert_last(final, count):
    """The final job saw all that the others did, and no other ran after it began."""
    final.refresh_from_db()
    assert (final.state, final.result) == ("COMPLETE", count)
    runs = TaskRun.objects.filter(job__group=final.group)
    assert runs.count() == count + 1  # Each once.
    others = runs.exclude(job=final)
    assert runs.get(job=final).started > others.order_by("-finished").first().finished
    prefix = final.group.reference
    assert Row.objects.filter(text__startswith=f"{prefix}: ").count() == 1


@pytest.mark.parametrize("workers", [1, 4])
def test_the_final_job_of_many_that_end_together_runs_once_and_last(one_bench, workers):
    with transaction.atomic():
        final = a_group("x", 500)
    for _ in range(workers):
        one_bench.worker(dbq=ASLEEP)
    one_bench.wait_for(final)
    assert_last(final, 500)


def test_of_many_small_groups_every_final_job_runs(one_bench):
    """Where two workers end the last two jobs of a group at once, one of them wakes the final one."""
    with transaction.atomic():
        finals = [a_group(f"group {number}", 4) for number in range(50)]
    # MariaDB may skip a row that another statement has locked in passing: there the next poll is the truth.
    dbq = {} if connection.vendor == "mysql" else ASLEEP
    for _ in range(4):
        one_bench.worker(dbq=dbq)
    for final in finals:
        one_bench.wait_for(final)
        assert_last(final, 4)


@pytest.mark.postgresql
def test_on_an_idle_worker_the_final_job_follows_within_moments(one_bench):
    worker = one_bench.worker(dbq=ASLEEP)
    one_bench.wait_until_idle(worker)
    for number in range(3):
        with transaction.atomic():
            final = a_group(f"group {number}", 3)
        one_bench.wait_for(final)
        assert_last(final, 3)
        last = TaskRun.objects.filter(job__group=final.group).exclude(job=final).order_by("finished").last()
        assert (final.started - last.finished).total_seconds() < 5  # The poll interval is 600.


@pytest.mark.postgresql
def test_a_final_job_of_a_queue_that_others_serve_is_announced_to_them(one_bench):
    workers = one_bench.worker(dbq=ASLEEP), one_bench.worker("finals", dbq=ASLEEP)
    one_bench.wait_until_idle(workers[0])
    one_bench.wait_for(one_bench.create("nothing", queue_name="finals"))
    with transaction.atomic():
        final = a_group("x", 3, meta={"queue_name": "finals"})
    one_bench.wait_for(final)
    assert_last(final, 3)


def test_a_burst_runs_the_final_job_before_it_exits(one_bench):
    with transaction.atomic():
        final = a_group("x", 3)
    assert one_bench.worker("--burst", dbq=ASLEEP).wait() == 0
    assert_last(final, 3)


def test_a_burst_leaves_a_final_job_whose_group_is_not_done(one_bench):
    with transaction.atomic():
        final = a_group("x", 3)
        schedule(calls.leave, ["x other"], meta={"queue_name": "other"}, group=None)
        late = Job.objects.create(name="nothing", queue_name="other", group=final.group)
    assert one_bench.worker("--burst", dbq=ASLEEP).wait() == 0
    assert (one_bench.state(final), one_bench.state(late)) == ("WAITING", "NEW")
    assert one_bench.worker("other", "default", "--burst", dbq=ASLEEP).wait() == 0
    assert one_bench.state(final) == "COMPLETE"


def test_a_failed_job_keeps_the_final_one_waiting_and_its_retry_frees_it(one_bench):
    with transaction.atomic():
        final = a_group("x", 2)
        failing = schedule(
            calls.fail_until_mended, ["x late"], meta={"retry": {"max_attempts": 1}}, group=final.group
        )
    assert one_bench.worker("--burst", dbq=ASLEEP).wait() == 0
    assert (one_bench.state(failing), one_bench.state(final)) == ("FAILED", "WAITING")
    calls.leave("mended")
    failing.refresh_from_db()
    failing.retry()
    assert one_bench.worker("--burst", dbq=ASLEEP).wait() == 0
    final.refresh_from_db()
    assert (final.state, final.result) == ("COMPLETE", 3)


@pytest.mark.parametrize("atomic", [True, False])
def test_a_final_job_follows_jobs_of_either_kind_of_record(one_bench, atomic):
    group = Group.objects.create(reference="x")
    with transaction.atomic():
        schedule(calls.leave, ["x 0"], meta={"atomic": atomic}, group=group)
        final = schedule(calls.count, ["x"], meta={"atomic": atomic})
        group.on_completion(final)
    assert one_bench.worker("--burst", dbq=ASLEEP).wait() == 0
    assert_last(final, 1)


def test_a_group_whose_jobs_were_all_cancelled_is_found_by_the_poll(one_bench):
    with transaction.atomic():
        final = a_group("x", 2)
    for job in final.group.jobs.exclude(pk=final.pk):
        assert job.cancel()
    one_bench.worker(dbq={"POLL_INTERVAL_SECONDS": 0.1})
    one_bench.wait_for(final)
    final.refresh_from_db()
    assert final.result == 0
