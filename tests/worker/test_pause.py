"""A paused queue: workers claim nothing from it, give back what they have not begun, and end what runs."""

from __future__ import annotations

import pytest

from django_dbq import Job, WorkerProcess, pause_queue, resume_queue
from django_dbq.worker.backlog import Backlog
from django_dbq.worker.executor import Executor
from django_dbq.worker.keeper import Keeper
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.slot import Slot
from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP

BRIEF = {"POLL_INTERVAL_SECONDS": 0.02}


def test_nothing_is_claimed_from_a_paused_queue_and_the_others_go_on(bench):
    pause_queue("a", bench.alias)
    kept, served = bench.create("nothing", queue_name="a"), bench.create("nothing", queue_name="b")
    assert bench.worker("a", "b", "--burst").wait() == 0
    assert (bench.state(kept), bench.state(served)) == ("NEW", "COMPLETE")
    assert bench.jobs(pk=kept.pk).get().claim == 0


def test_a_worker_whose_only_queue_is_paused_claims_nothing(bench):
    pause_queue("default", bench.alias)
    kept = bench.create("nothing")
    worker = bench.worker("--burst")
    assert worker.wait() == 0
    assert bench.state(kept) == "NEW"
    assert "Paused: queues=default " in worker.log()


def test_a_worker_that_runs_notices_a_pause_and_the_end_of_it(bench):
    worker = bench.worker("a", "b", dbq=BRIEF)
    bench.wait_for(bench.create("nothing", queue_name="a"))
    pause_queue("a", bench.alias)
    rounds(bench)
    kept = bench.create("nothing", queue_name="a")
    bench.wait_for(bench.create("nothing", queue_name="b"))
    rounds(bench)
    assert bench.state(kept) == "NEW"
    resume_queue("a", bench.alias)
    bench.wait_for(kept)
    assert worker.log().index("Paused: queues=a ") < worker.log().index("Resumed: queues=a ")


def rounds(bench):
    """Wait until a worker with a short poll interval has been through its upkeep twice."""
    for _ in range(2):
        # What waits for its time is made claimable by upkeep alone.
        job = bench.create("nothing", queue_name="nobody's")
        due = bench.jobs(pk=job.pk)
        due.update(staged=False, run_after=job.created)
        wait_until(lambda due=due: due.get().staged, "upkeep has staged the job")


@pytest.mark.postgresql
def test_a_resumed_queue_wakes_a_worker_at_once(bench):
    pause_queue("a", bench.alias)
    worker = bench.worker("a", "default", dbq=ASLEEP)
    kept = bench.create("nothing", queue_name="a")
    bench.wait_until_idle(worker)
    assert bench.state(kept) == "NEW"
    resume_queue("a", bench.alias)
    bench.wait_for(kept)


def test_what_runs_ends_its_task_and_what_has_not_begun_is_given_back(one_bench):
    running = one_bench.create("hold", queue_name="a", priority=1)
    worker = one_bench.worker("a", "b", dbq={**BRIEF, "BACKLOG_SECONDS": 60})
    one_bench.wait_until_begun(running)
    pause_queue("a")
    rounds(one_bench)
    one_bench.go_on()
    one_bench.wait_for(running, "READY")  # It has a second task.
    one_bench.wait_for(one_bench.create("nothing", queue_name="b"))
    found = one_bench.jobs(pk=running.pk).get()
    assert (found.state, found.next_task, found.claimed_by) == ("READY", "tests.workflows.count", None)
    assert one_bench.runs(running, "outcome") == ["done"]
    assert worker.popen.poll() is None
    resume_queue("a")
    one_bench.wait_for(running)


@pytest.mark.django_db(transaction=True)
def test_the_backlog_of_a_paused_queue_is_given_back_without_counting_an_attempt():
    settings = WorkerSettings(using="default", queue_names=("a", "b"), threads=2)
    keeper = Keeper(settings, Executor("default", "host:1:abc"), Backlog(), [Slot(), Slot()], lambda: None)
    behind = Job.objects.create(name="nothing", queue_name="a")
    other = Job.objects.create(name="nothing", queue_name="b")
    keeper._keep_up()
    keeper._claim()
    assert len(keeper.backlog) == 2
    pause_queue("a")
    keeper._upkeep.due_at = 0.0
    keeper._keep_up()
    assert len(keeper.backlog) == 1
    behind.refresh_from_db()
    other.refresh_from_db()
    assert (behind.state, behind.attempt, behind.claimed_by) == ("NEW", 0, None)
    assert (other.state, other.claimed_by) == ("PROCESSING", "host:1:abc")


def test_a_worker_counts_its_tasks_and_tells_its_size(one_bench):
    for name in ("five", "five", "boom", "nothing"):
        one_bench.create(name)
    one_bench.worker(dbq={"LEASE_SECONDS": 1})
    wait_until(
        lambda: {*WorkerProcess.objects.values_list("tasks_done", "tasks_failed")} == {(11, 1)},
        "eleven tasks are done and one has failed",
    )
    assert WorkerProcess.objects.get().rss_bytes > 1_000_000
