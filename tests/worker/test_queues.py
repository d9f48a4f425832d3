"""Which jobs a worker takes, how many at once, and when it is done."""

from __future__ import annotations

import datetime
import itertools

import pytest
from django.utils import timezone

from django_dbq import Job
from tests.conftest import wait_until


def test_several_queues_are_served_by_priority(bench):
    for n, (queue, priority) in enumerate([("a", 0), ("b", 5), ("a", 3), ("c", 9), ("b", -1), ("a", 5)]):
        bench.create("witness", {"n": n}, queue_name=queue, priority=priority)
    assert bench.worker("a", "b", "--burst").wait() == 0
    assert [n for _, _, n in bench.witnesses()] == ["1", "5", "2", "0", "4"]
    assert bench.jobs(state="NEW").get().queue_name == "c"


def test_without_a_name_the_default_queue_is_served(one_bench):
    mine, other = one_bench.create("nothing"), one_bench.create("nothing", queue_name="other")
    assert one_bench.worker("--burst").wait() == 0
    assert (one_bench.state(mine), one_bench.state(other)) == ("COMPLETE", "NEW")


def test_a_burst_drains_what_is_due_and_exits(bench):
    jobs = [bench.create("five") for _ in range(20)]
    later = bench.create("nothing", run_after=timezone.now() + datetime.timedelta(hours=1))
    failing = bench.create("boom")
    worker = bench.worker("--burst")
    assert worker.wait() == 0
    assert {bench.state(job) for job in jobs} == {"COMPLETE"}
    assert all(job.workspace["count"] == 5 for job in bench.jobs(name="five"))
    assert (bench.state(later), bench.state(failing)) == ("NEW", "FAILED")
    assert 'Starting job worker for queue "default"' in worker.log()
    line = next(line for line in worker.log().splitlines() if "Job failed" in line)
    for fact in (f"job={failing.pk}", "name=boom", "task=tests.workflows.boom", "attempt=1", "seconds="):
        assert fact in line


def test_a_burst_runs_what_its_own_tasks_create(one_bench):
    one_bench.create("create_witnesses")
    assert one_bench.worker("--burst").wait() == 0
    assert sorted(n for _, _, n in one_bench.witnesses()) == ["0", "1", "2"]


def test_a_burst_drains_more_future_jobs_than_are_staged_at_once(one_bench):
    Job.objects.bulk_create([Job(name="nothing") for _ in range(2_500)])
    past = timezone.now() - datetime.timedelta(seconds=1)
    Job.objects.update(run_after=past, staged=False)
    assert one_bench.worker("--burst", dbq={"POLL_INTERVAL_SECONDS": 600}).wait() == 0
    assert set(Job.objects.values_list("state", flat=True)) == {"COMPLETE"}


def test_an_empty_burst_exits(bench):
    assert bench.worker("--burst").wait() == 0


def test_max_jobs_are_run_and_the_rest_is_left_untouched(bench):
    for n in range(10):
        bench.create("witness", {"n": n})
    assert bench.worker("--max-jobs", "3").wait() == 0
    assert [n for _, _, n in bench.witnesses()] == ["0", "1", "2"]
    assert {*bench.jobs(state="NEW").values_list("attempt", "claimed_by")} == {(0, None)}
    assert bench.jobs(state="NEW").count() == 7


def test_threads_run_tasks_at_once(bench):
    jobs = [bench.create("hold") for _ in range(3)]
    worker = bench.worker("--threads", "3")
    assert bench.wait_until_begun(*jobs) == {str(worker.pid)}
    bench.go_on()
    for job in jobs:
        bench.wait_for(job)
    worker.popen.terminate()
    assert worker.wait() == 0


def test_processes_run_tasks_at_once(bench):
    jobs = [bench.create("hold") for _ in range(2)]
    worker = bench.worker("--processes", "2")
    pids = bench.wait_until_begun(*jobs)
    assert len(pids) == 2 and str(worker.pid) not in pids
    bench.go_on()
    for job in jobs:
        bench.wait_for(job)
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()


@pytest.mark.parametrize(
    "how", [["--threads", "2"], ["--processes", "2"], ["--processes", "2", "--threads", "2"]]
)
def test_a_burst_of_many_tasks_at_once_drains_too(one_bench, how):
    for n in range(60):
        one_bench.create("witness", {"n": n})
    assert one_bench.worker("--burst", *how).wait() == 0
    assert sorted(int(n) for _, _, n in one_bench.witnesses()) == list(range(60))
    assert set(Job.objects.values_list("state", flat=True)) == {"COMPLETE"}


def test_async_tasks_run_in_threads(one_bench):
    jobs = [one_bench.create("async") for _ in range(10)]
    assert one_bench.worker("--burst", "--threads", "3").wait() == 0
    assert {one_bench.state(job) for job in jobs} == {"COMPLETE"}


def test_a_rate_limit_spaces_tasks_out(one_bench):
    for n in range(2):
        one_bench.create("witness", {"n": n})
    two_tasks = one_bench.create("create_witnesses", priority=1)
    assert one_bench.worker("--rate_limit", "0.3", "--burst").wait() == 0
    started = sorted(moment for job in Job.objects.all() for moment in one_bench.runs(job, "started"))
    assert len(started) == 6 and one_bench.state(two_tasks) == "COMPLETE"
    waits = [(after - before).total_seconds() for before, after in itertools.pairwise(started)]
    assert min(waits) > 0.25


def test_a_job_waits_for_its_time(one_bench):
    worker = one_bench.worker(dbq={"POLL_INTERVAL_SECONDS": 0.1})
    one_bench.wait_until_idle(worker)
    job = one_bench.create("nothing", run_after=timezone.now() + datetime.timedelta(seconds=0.5))
    one_bench.wait_for(job)
    job.refresh_from_db()
    [started] = one_bench.runs(job, "started")
    assert started >= job.run_after


def test_a_slow_task_does_not_hold_others_hostage(one_bench):
    """Once quick jobs have made a worker claim ahead, what waits behind a slow one goes back."""
    Job.objects.bulk_create([Job(name="witness", priority=1) for _ in range(200)])
    slow = one_bench.create("hold")
    waiting = [one_bench.create("witness", {"n": "waiting"}) for _ in range(50)]
    one_bench.worker()
    one_bench.wait_until_begun(slow)
    other = one_bench.worker()
    for job in waiting:
        one_bench.wait_for(job)
    pids = {pid for _, pid, n in one_bench.witnesses() if n == "waiting"}
    assert one_bench.state(slow) == "PROCESSING" and str(other.pid) in pids
    assert {attempt for job in waiting for attempt in one_bench.runs(job, "attempt")} == {1}


def test_two_workers_run_each_job_once(bench):
    bench.jobs().bulk_create([Job(name="witness", workspace={"n": n}) for n in range(500)])
    workers = [bench.worker("--burst"), bench.worker("--burst")]
    assert [worker.wait() for worker in workers] == [0, 0]
    wait_until(lambda: not bench.jobs().exclude(state="COMPLETE").exists(), "all jobs are complete")
    assert sorted(int(n) for _, _, n in bench.witnesses()) == list(range(500))
