"""How many jobs a worker claims ahead, by what it has seen of them."""

from __future__ import annotations

import pytest

from django_dbq.worker.pace import CLAIM_BYTES, Pace

QUICK, SLOW = 0.00001, 10.0


def pace(slots=1, backlog_max=500):
    """Return one that has yet to see a job, which claims for 50 ms of work."""
    return Pace(0.05, backlog_max, slots)


def after(pace, *claims, name="job", seconds=QUICK, size=2, took=0.001):
    """Have it make full claims of so many jobs and run them; return how many it would claim next."""
    for count in claims:
        for _ in range(count):
            pace.observe(name, seconds)
        pace.claimed([name] * count, count, size * count, took)
    return pace.limit(backlog=0, idle=pace.slots)


@pytest.mark.parametrize("slots", [1, 4])
def test_the_first_claim_is_a_job_for_each_thread(slots):
    assert pace(slots).limit(backlog=0, idle=slots) == slots
    assert pace(slots).limit(backlog=0, idle=1) == 1
    assert pace(slots).limit(backlog=1, idle=1) == 0


def test_quick_jobs_make_the_next_claim_eight_times_as_large_up_to_the_most_allowed():
    assert after(pace(), 1) == 8
    assert after(pace(), 1, 8) == 64
    assert after(pace(), 1, 8, 64) == 500
    assert after(pace(slots=4), 4) == 32


def test_a_claim_that_more_than_doubles_is_the_work_of_its_seconds():
    assert after(pace(), 1, seconds=0.01) == 5
    assert after(pace(), 1, seconds=0.026) == 2


def test_a_claim_for_one_idle_thread_grows_from_what_all_threads_take():
    """Where each statement takes long, threads would wait for their next job."""
    one = pace(slots=4)
    one.claimed(["job"], 1, 2, 0.001)
    assert one.limit(backlog=0, idle=1) > 4


def test_tasks_that_take_no_time_that_could_be_measured_are_quick():
    assert after(pace(), 1, seconds=0.0) == 8


def test_a_claim_that_was_not_filled_does_not_grow():
    one = pace()
    after(one, 1, 2)
    one.claimed(["job"] * 3, 64, 6, 0.001)
    assert one.limit(backlog=0, idle=1) == 64


def test_a_job_never_seen_counts_as_slow():
    one = pace()
    after(one, 1, 2, 4)
    one.claimed(["other"] * 8, 8, 16, 0.001)
    assert one.limit(backlog=0, idle=1) == 1


def test_slow_jobs_are_claimed_one_at_a_time():
    one = pace()
    after(one, 1, 2, 4)
    assert after(one, 8, seconds=SLOW) == 1


def test_a_claim_takes_no_more_than_the_work_of_its_seconds():
    assert after(pace(), 64, seconds=0.004) == 12


def test_what_waits_is_added_to_when_a_quarter_of_it_is_left():
    one = pace()
    limit = after(one, 1, 2, 4, 8)
    assert [one.limit(backlog=left, idle=0) for left in (limit, limit // 4 + 1, limit // 4)] == [0, 0, limit]


def test_large_workspaces_are_claimed_few_at_a_time():
    """However quick their tasks: the workspaces of a claim are in memory at once."""
    assert after(pace(), 1, 2, 4, 8, 16, 32, 64, size=CLAIM_BYTES // 40) == 40
    assert after(pace(), 1, 2, 4, size=2 * CLAIM_BYTES) == 1
    assert after(pace(slots=4), 4, 8, size=2 * CLAIM_BYTES) == 4


def test_a_worker_that_was_stopped_by_a_slow_task_begins_again_with_one_job():
    one = pace()
    after(one, 1, 2, 4, 8)
    one.slow()
    assert one.limit(backlog=0, idle=1) == 1


def test_on_a_slow_network_a_claim_is_for_as_much_work_as_it_takes_itself():
    assert after(pace(), 8, seconds=0.1, took=0.001) == 1
    assert after(pace(), 8, seconds=0.1, took=0.5) == 5
    assert after(pace(slots=4), 40, seconds=0.125, took=0.5) == 16


def test_on_a_slow_network_a_job_stays_whose_next_task_takes_less_than_a_claim():
    near, far = pace(), pace()
    after(near, 1, seconds=0.1, took=0.001)
    after(far, 1, seconds=0.1, took=0.5)
    assert not near.quick("job")
    assert far.quick("job")


def test_a_claim_is_for_no_more_work_than_may_wait_behind_a_task():
    assert after(pace(), 8, seconds=0.5, took=20.0) == 2


def test_one_claim_that_had_to_wait_changes_little_and_not_for_long():
    one = pace()
    after(one, 1, seconds=0.1)
    assert after(one, 1, seconds=0.1, took=1.0) <= 2
    assert after(one, 2, seconds=0.1) == 1


def test_a_worker_told_to_claim_nothing_ahead_does_so_on_a_slow_network_too():
    assert after(Pace(0.0, 500, 1), 1, seconds=QUICK, took=0.5) == 1


def test_a_worker_told_to_claim_nothing_ahead_may_claim_what_it_has_never_seen():
    one = Pace(0.0, 500, 1)
    one.claimed(["new"], 1, 2, 0.001)
    assert one.limit(backlog=0, idle=1) == 1
