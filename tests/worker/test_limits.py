"""Limits: of a task's time, of what a stop may take, of a worker's size; and what a database refuses."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connections

from django_dbq import Job, TaskTimeout
from django_dbq.engine.workflow import Task
from django_dbq.store import get_store
from django_dbq.worker.functions import imported
from django_dbq.worker.limits import time_limit
from tests import workflows
from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP, children

# A task that does not end at its time limit is waited for no longer than this.
IMPATIENT = {"POLL_INTERVAL_SECONDS": 0.1, "TIMEOUT_GRACE_SECONDS": 0.3}


def error(job):
    return Job.objects.get(pk=job.pk).error or ""


# Time limits.


def test_whether_a_task_is_async_is_looked_at_again_once_it_is_another_function(monkeypatch):
    job = Job(name="nothing", next_task="tests.workflows.nothing")
    assert imported(job) == (workflows.nothing, False)
    monkeypatch.setattr(workflows, "nothing", workflows.asynchronous)
    assert imported(job) == (workflows.asynchronous, True)


def test_a_task_that_takes_too_long_fails_and_is_tried_again_by_its_policy(one_bench):
    job = one_bench.create("too_slow")
    worker = one_bench.worker("--burst")
    assert worker.wait() == 0, worker.log()
    assert one_bench.state(job) == "FAILED"
    assert error(job).endswith("TaskTimeout: tests.workflows.hold ran longer than its timeout_seconds, 0.3")
    assert one_bench.runs(job, "outcome", "attempt") == [("failed", 1), ("failed", 2)]
    assert all("in hold" in text for text in one_bench.runs(job, "error")), "the traceback tells where"


def test_a_task_that_ends_in_time_is_left_alone(one_bench):
    one_bench.go_on()
    job = one_bench.create("too_slow")
    assert one_bench.worker("--burst").wait() == 0
    assert one_bench.runs(job, "outcome") == ["done", "done"]


@pytest.mark.parametrize("way", [[], ["--threads", "2"]])
def test_a_coroutine_that_takes_too_long_is_cancelled_and_costs_no_process(one_bench, way):
    job = one_bench.create("too_slow_async")
    worker = one_bench.worker("--burst", *way, dbq=IMPATIENT)
    assert worker.wait() == 0, worker.log()
    assert one_bench.state(job) == "FAILED" and "TaskTimeout: tests.workflows.hold_async" in error(job)
    assert (one_bench.folder / f"cancelled-{job.pk}").exists()


def test_a_task_that_is_stuck_in_a_thread_costs_the_process_and_the_others_end(one_bench):
    job, other = one_bench.create("too_slow"), one_bench.create("hold")
    worker = one_bench.worker("--threads", "2", dbq={**IMPATIENT, "TIMEOUT_GRACE_SECONDS": 10})
    one_bench.wait_until_begun(job, other)
    wait_until(lambda: f"Task stuck: job={job.pk}" in worker.log(), "the worker has said so")
    one_bench.wait_for(other, "STOPPING")  # Nothing new begins, and what runs may end.
    (one_bench.folder / "go-on").touch()
    assert worker.wait() in (0, 1), worker.log()
    assert one_bench.runs(other, "outcome") == ["done"]


def test_a_task_stuck_in_a_thread_fails_by_its_policy(one_bench):
    job = one_bench.create("too_slow")
    for attempt, state in ((1, "READY"), (2, "FAILED")):
        worker = one_bench.worker("--threads", "2", dbq=IMPATIENT)
        assert worker.wait() == 1, worker.log()
        assert f"Task stuck: job={job.pk}" in worker.log()
        assert one_bench.runs(job, "outcome", "attempt")[-1] == ("failed", attempt)
        assert one_bench.state(job) == state
    assert "TaskTimeout: tests.workflows.hold ran past its timeout_seconds and did not end" in error(job)
    row = Job.objects.get(pk=job.pk)
    assert (row.lost_attempts, row.claimed_by) == (0, None)
    for began, ended, text in one_bench.runs(job, "started", "finished", "error"):
        assert ended - began > timedelta(seconds=0.3), "the attempt began when its task did"
        assert "in hold\n" in text, "the stack tells where it hangs"
    assert row.error.startswith("django_dbq.exceptions.TaskTimeout: "), "of which the job's line has nothing"


def test_a_process_with_a_stuck_thread_is_replaced(one_bench):
    job = one_bench.create("too_slow")
    supervisor = one_bench.worker("--processes", "2", "--threads", "2", dbq=IMPATIENT)
    one_bench.wait_for(job, "FAILED")
    wait_until(lambda: len(children(supervisor)) == 4, "each of the two that left was replaced")
    other = one_bench.create("nothing")
    one_bench.wait_for(other)
    supervisor.popen.terminate()
    assert supervisor.wait() == 0, supervisor.log()


def test_a_task_that_will_not_hear_of_its_time_limit_is_ended_after_the_grace(one_bench):
    job, other = one_bench.create("too_slow_and_deaf"), one_bench.create("nothing")
    worker = one_bench.worker(dbq=IMPATIENT)
    assert worker.wait() == 1, worker.log()
    assert f"Task stuck: job={job.pk}" in worker.log()
    assert one_bench.state(job) == "FAILED" and "TaskTimeout" in error(job)
    assert one_bench.runs(job, "outcome") == ["failed"]
    [text] = one_bench.runs(job, "error")
    assert "in hold_in_spite_of_all\n" in text and text in worker.log()
    assert one_bench.worker("--burst").wait() == 0
    assert one_bench.state(other) == "COMPLETE"


# Stopping.


@pytest.mark.parametrize("way", [[], ["--threads", "2"], ["--processes", "2"]])
def test_after_the_grace_a_running_task_is_given_back_and_no_attempt_counted(one_bench, way):
    job = one_bench.create("hold")
    worker = one_bench.worker("--grace", "0.3", *way, dbq=ASLEEP)
    one_bench.wait_until_begun(job)
    worker.popen.send_signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.log()
    row = Job.objects.get(pk=job.pk)
    assert (row.state, row.attempt, row.lost_attempts, row.claimed_by) == ("NEW", 0, 0, None)
    assert one_bench.runs(job, "outcome") == []


def test_within_the_grace_a_task_ends_by_itself(one_bench):
    job = one_bench.create("hold")
    worker = one_bench.worker("--grace", "20", dbq=ASLEEP)
    one_bench.wait_until_begun(job)
    worker.popen.send_signal(signal.SIGTERM)
    one_bench.wait_for(job, "STOPPING")
    one_bench.go_on()
    assert worker.wait() == 0, worker.log()
    assert one_bench.runs(job, "outcome") == ["done"]


# Size.


def test_a_worker_that_has_become_too_large_finishes_what_runs_and_exits(one_bench):
    job, rest = one_bench.create("hold"), one_bench.create("hold")
    worker = one_bench.worker("--max-rss", "1", dbq={**ASLEEP, "POLL_INTERVAL_SECONDS": 0.1})
    one_bench.wait_until_begun(job)
    wait_until(lambda: "Too large, stopping: rss_bytes=" in worker.log(), "the worker has noticed")
    one_bench.go_on()
    assert worker.wait() == 0, worker.log()
    assert one_bench.runs(job, "outcome") == ["done"] and one_bench.state(rest) == "NEW"


def test_a_worker_that_is_too_large_and_idle_exits_at_once(one_bench):
    job = one_bench.create("nothing")
    worker = one_bench.worker("--max-rss", "1", dbq={**ASLEEP, "POLL_INTERVAL_SECONDS": 0.1})
    assert worker.wait() == 0, worker.log()
    assert one_bench.state(job) == "COMPLETE"


def test_a_worker_that_is_too_large_from_the_start_gets_something_done(one_bench):
    jobs = [one_bench.create("nothing") for _ in range(3)]
    dbq = {**ASLEEP, "POLL_INTERVAL_SECONDS": 0.1}
    supervisor = one_bench.worker("--processes", "2", "--max-rss", "1", dbq=dbq)
    for job in jobs:
        one_bench.wait_for(job)
    # No process is replaced that has done nothing.
    assert len(children(supervisor)) <= 2 + len(jobs)
    supervisor.popen.terminate()
    assert supervisor.wait() == 0, supervisor.log()


# What the database refuses.


@contextmanager
def refusing(alias, text):
    """Make the database refuse jobs with this result."""
    connection = connections[alias]
    create = {
        "postgresql": "ALTER TABLE django_dbq_job ADD CONSTRAINT refusal CHECK (result::text <> '{0}')",
        "sqlite": "CREATE TRIGGER refusal BEFORE UPDATE ON django_dbq_job WHEN NEW.result = '{0}'"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "mysql": "ALTER TABLE django_dbq_job ADD CONSTRAINT refusal CHECK (result <> '{0}')",
    }[connection.vendor]
    drop = {
        "sqlite": "DROP TRIGGER refusal",
        "postgresql": "ALTER TABLE django_dbq_job DROP CONSTRAINT refusal",
        "mysql": "ALTER TABLE django_dbq_job DROP CONSTRAINT refusal",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(create.format(text))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(drop)


def test_a_record_that_the_database_refuses_fails_its_job_and_no_other(bench):
    # So many that they are claimed, and recorded, together.
    jobs = [bench.create("result", {"n": n}) for n in range(40)]
    with refusing(bench.alias, 13):
        worker = bench.worker("--burst")
        assert worker.wait() == 0, worker.log()
    refused = jobs.pop(13)
    for job in jobs:
        row = bench.jobs(pk=job.pk).get()
        assert (row.state, row.result) == ("COMPLETE", job.workspace["n"])
        assert bench.runs(job, "outcome") == ["done"]
    row = bench.jobs(pk=refused.pk).get()
    assert (row.state, row.result, row.workspace) == ("FAILED", None, refused.workspace)
    kind, _, reason = row.error.partition(": the database refused the record: ")
    assert kind == "IntegrityError" and "refus" in reason, row.error
    assert "\n" not in reason, "what follows the first line may show the row"
    assert bench.runs(refused, "outcome") == ["failed"]
    assert "Record refused" in worker.log()


# A job that comes back to the worker that has lost it.


def test_an_attempt_that_has_lost_its_job_does_not_end_the_later_one_beside_it(one_bench):
    """Both run in threads of one worker: the lease ran out while the database was away, say."""
    job = one_bench.create("hold_each")
    worker = one_bench.worker("--threads", "2", dbq={"LEASE_SECONDS": 2, "POLL_INTERVAL_SECONDS": 0.1})
    began = lambda claim: (one_bench.folder / f"began-{job.pk}-{claim}").exists()  # noqa: E731
    wait_until(lambda: began(1), "the task began")
    store = get_store(one_bench.alias)

    def taken_back():
        store.expire([Job.objects.get(pk=job.pk).claimed_by])
        return store.rescue(worker="another", lease_seconds=30, lost_attempts_max=9)[0]

    wait_until(taken_back, "another worker rescued the job")
    wait_until(lambda: began(2), "the task began again")
    (one_bench.folder / "go-on-1").touch()
    wait_until(lambda: "Lease lost, outcome dropped" in worker.log(), "the first attempt has ended")
    first = Job.objects.get(pk=job.pk)
    wait_until(
        lambda: (Job.objects.get(pk=job.pk).lease_until - first.lease_until).total_seconds() > 2.5,
        "the second attempt's lease is renewed for longer than it lasts",
    )
    (one_bench.folder / "go-on-2").touch()
    one_bench.wait_for(job)
    assert one_bench.runs(job, "claim", "outcome") == [(1, "lost"), (2, "done")]


def test_a_limit_within_a_limit_leaves_the_outer_one_running():
    def ended(seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    outer, inner = (Task("app.tasks.one", timeout_seconds=limit) for limit in (0.3, 60))
    with pytest.raises(TaskTimeout, match=r"0\.3"), time_limit(outer):
        with time_limit(inner):
            ended(0.05)
        ended(10)


@pytest.fixture
def right_after(monkeypatch):
    """Let something happen right after each call of a function of the module signal."""

    def happens(name, what):
        def call(*args):
            answer = real(*args)
            what()
            return answer

        real = getattr(signal, name)
        monkeypatch.setattr(signal, name, call)

    return happens


def test_no_alarm_is_left_when_the_old_handler_comes_back(right_after):
    armed = []
    right_after("signal", lambda: armed.append(signal.getitimer(signal.ITIMER_REAL)[0]))
    with time_limit(Task("app.tasks.one", timeout_seconds=60)):
        pass
    assert armed == [0, 0]


def test_a_limit_that_is_reached_at_the_last_moment_leaves_the_outer_one_running(right_after, monkeypatch):
    def alarm():
        monkeypatch.undo()
        signal.raise_signal(signal.SIGALRM)

    outer, inner = (Task("app.tasks.one", timeout_seconds=limit) for limit in (60, 50))
    with time_limit(outer):
        handler = signal.getsignal(signal.SIGALRM)
        with pytest.raises(TaskTimeout, match="50"), time_limit(inner):
            right_after("setitimer", alarm)
        assert signal.getsignal(signal.SIGALRM) is handler
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
