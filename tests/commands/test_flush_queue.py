"""manage.py flush_queue: one pass over what is due, by real processes."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from django_dbq import Group, Job, TaskRun, WorkerProcess, schedule
from django_dbq.compat.django_async import due_jobs
from tests.commands import functions
from tests.conftest import DEADLINE_SECONDS, wait_until
from tests.models import Row
from tests.worker.conftest import ASLEEP

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = {"retry": {"delay_seconds": 0}}
SOON = {"retry": {"delay_seconds": 0.01}}  # Not kept by the worker that it failed on, but back for all.


@pytest.fixture
def flush(manage):
    """Run one pass to its end; return its exit code and what it said."""

    def run(*args, **env):
        process = manage("flush_queue", *args, **env)
        code = process.wait()
        return code, process.log()

    return run


def rows():
    """Return the texts of the rows in the order in which they were written."""
    return list(Row.objects.order_by("pk").values_list("text", flat=True))


def ahead(seconds):
    return timezone.now() + datetime.timedelta(seconds=seconds)


def facts(job):
    job.refresh_from_db()
    return job.state, job.attempt, job.claimed_by, job.lease_until


# One pass.


def test_an_empty_queue_is_no_error(flush):
    code, said = flush()
    assert (code, said.splitlines()[-1]) == (0, "Executed 0 of 0 due jobs")


def test_it_runs_what_is_due_and_exits_with_zero(flush):
    due = [schedule(functions.write, [text]) for text in "ab"]
    later = schedule(functions.write, ["later"], run_after=ahead(600))
    code, said = flush()
    assert code == 0 and said.splitlines()[-1] == "Executed 2 of 2 due jobs"
    assert rows() == ["a", "b"]
    assert [facts(job)[0] for job in [*due, later]] == ["COMPLETE", "COMPLETE", "NEW"]
    assert not WorkerProcess.objects.exists()


def test_the_order_is_priority_then_time_then_creation(flush):
    schedule(functions.write, ["low, with a time"], priority=1, run_after=ahead(-600))
    schedule(functions.write, ["first without"])
    schedule(functions.write, ["second without"])
    schedule(functions.write, ["later time"], run_after=ahead(-1))
    schedule(functions.write, ["earlier time"], run_after=ahead(-60))
    schedule(functions.write, ["high"], priority=6)
    schedule(functions.write, ["low"], priority=1)
    assert flush()[0] == 0
    assert rows() == [
        "high",
        "earlier time",
        "later time",
        "first without",
        "second without",
        "low, with a time",
        "low",
    ]


def test_a_time_that_has_come_is_due_though_no_worker_has_looked(flush):
    job = schedule(functions.write, ["a"], run_after=ahead(0.3))
    wait_until(lambda: timezone.now() > job.run_after, "the time to come")
    assert not Job.objects.get(pk=job.pk).staged
    assert flush()[0] == 0
    assert rows() == ["a"]


def test_what_jobs_create_waits_for_the_next_pass(flush):
    schedule(functions.write_and_schedule, ["now", "then"])
    assert flush()[0] == 0
    assert rows() == ["now"]
    assert flush()[0] == 0
    assert rows() == ["now", "then"]


def test_at_most_so_many_jobs_are_run(flush):
    for text in "abc":
        schedule(functions.write, [text])
    assert flush("--jobs", "2")[1].splitlines()[-1] == "Executed 2 of 2 due jobs"
    assert rows() == ["a", "b"]


def test_only_names_with_the_prefix_are_run(flush):
    schedule(functions.write, ["a"])
    Job.objects.create(name="writes")
    assert flush("--filter", "tests.commands.functions.wr")[0] == 0
    assert rows() == ["a"]
    assert flush("-f", "tests.commands.functions.write_")[1].splitlines()[-1] == "Executed 0 of 0 due jobs"


def test_only_the_queue_named_is_served_and_without_one_all_are(flush):
    schedule(functions.write, ["other"], meta={"queue_name": "other"})
    schedule(functions.write, ["default"])
    assert flush("--queue", "other")[0] == 0
    assert rows() == ["other"]
    assert flush()[0] == 0
    assert rows() == ["other", "default"]


def test_a_job_of_many_tasks_runs_to_its_end(flush):
    job = Job.objects.create(name="five")
    code, said = flush()
    assert code == 0 and said.splitlines()[-1] == "Executed 1 of 1 due jobs"
    job.refresh_from_db()
    assert (job.state, job.workspace) == ("COMPLETE", {"count": 5})


def test_a_job_of_slow_tasks_runs_to_its_end(flush):
    # Slow ones go back between their tasks, and are claimed again.
    job = Job.objects.create(name="five")
    dbq = json.dumps({"BACKLOG_SECONDS": 0.000001})
    code, said = flush(TEST_DBQ=dbq)
    assert code == 0 and said.splitlines()[-1] == "Executed 1 of 1 due jobs"
    job.refresh_from_db()
    assert (job.state, job.workspace) == ("COMPLETE", {"count": 5})


def test_the_final_job_of_a_group_runs_in_the_pass_after_its_last(flush):
    group = Group.objects.create(reference="import")
    for text in "ab":
        schedule(functions.write, [text], group=group)
    group.on_completion(schedule(functions.write, ["final"]))
    assert flush()[0] == 0 and rows() == ["a", "b"]
    assert flush()[0] == 0 and rows() == ["a", "b", "final"]


# Failures.


def test_it_exits_with_one_at_the_first_failure_which_is_recorded(flush):
    # So many quick ones that a worker would have claimed the rest together with the failing one.
    first = [schedule(functions.write, [str(number)], priority=7) for number in range(30)]
    failing = schedule(functions.boom, priority=6)
    after = [schedule(functions.write, ["after"]) for _ in range(30)]
    code, said = flush()
    assert code == 1
    assert said.splitlines()[-1] == (
        f"CommandError: Stopped at job {failing.id} (tests.commands.functions.boom): ValueError: uh oh"
    )
    assert rows() == [str(number) for number in range(30)] and facts(first[-1])[0] == "COMPLETE"
    for job in after:
        assert facts(job) == ("NEW", 0, None, None) and job.started is None
    failing.refresh_from_db()
    assert (failing.state, failing.priority, failing.error) == ("READY", 5, "ValueError: uh oh")
    assert 50 < (failing.run_after - timezone.now()).total_seconds() < 61
    (run,) = failing.runs.all()
    assert run.outcome == "failed" and "Traceback" in run.error


def test_what_a_failure_puts_off_is_left_to_a_later_pass(flush):
    schedule(functions.boom)
    schedule(functions.write, ["next"])
    assert flush()[0] == 1
    assert flush()[0] == 0
    assert rows() == ["next"]


@pytest.mark.parametrize("meta", [AT_ONCE, {"retry": {"max_attempts": 1}}])
def test_a_failure_ends_the_pass_whatever_its_retry_policy(flush, meta):
    failing = schedule(functions.boom, meta=meta)
    schedule(functions.write, ["after"])
    assert flush()[0] == 1
    assert facts(failing)[0] == ("READY" if meta is AT_ONCE else "FAILED") and not rows()
    assert failing.runs.count() == 1


def test_a_function_that_has_gone_is_parked_and_named(flush, tmp_path, monkeypatch):
    (tmp_path / "soon_gone.py").write_text("def work():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    gone = schedule("soon_gone.work", priority=6)
    schedule(functions.write, ["after"])
    code, said = flush()
    assert code == 1
    stopped = said.splitlines()[-1]
    assert f"Stopped at job {gone.id} (soon_gone.work)" in stopped
    assert "the function 'soon_gone.work' does not import" in stopped
    gone.refresh_from_db()
    assert (gone.state, gone.attempt) == ("NEW", 0) and "soon_gone.work" in gone.error
    assert not gone.runs.exists() and not rows()
    assert flush()[0] == 0 and rows() == ["after"]


def test_a_workflow_that_fails_is_recorded_too(flush):
    job = Job.objects.create(name="boom")
    code, said = flush()
    assert code == 1 and f"Stopped at job {job.id} (boom): ValueError: uh oh" in said
    assert facts(job)[0] == "FAILED"


def test_the_failure_that_stops_a_pass_is_told_without_the_secret_that_it_tells(flush):
    job = Job.objects.create(name="leak")
    code, said = flush()
    assert (
        code == 1 and f"Stopped at job {job.id} (leak): ValueError: cannot log in with password=***" in said
    )
    assert "hunter2" not in said


# Beside others.


def test_parts_together_are_the_whole_and_share_nothing():
    ids = [schedule(functions.write, ["a"]).pk for _ in range(60)]
    for outof in (2, 3, 7):
        parts = [due_jobs(60, which=which, outof=outof) for which in range(outof)]
        assert all(parts) and sum(map(len, parts)) == 60
        assert set().union(*parts) == set(ids)
        assert due_jobs(60, which=outof, outof=outof) == parts[0]  # As django-async took it.
        assert len(due_jobs(3, which=1, outof=outof)) == 3


def test_passes_over_parts_run_every_job_once(flush):
    for number in range(20):
        schedule(functions.write, [str(number)])
    expected = len(due_jobs(20, which=0, outof=2))
    assert flush("--which", "0", "--outof", "2")[1].splitlines()[-1].startswith(f"Executed {expected} of")
    assert len(rows()) == expected
    assert flush("-w", "1", "-o", "2")[0] == 0
    assert sorted(rows(), key=int) == [str(number) for number in range(20)]


def test_jobs_that_others_have_taken_meanwhile_are_passed_over_at_once(manage, tmp_path):
    schedule(functions.hold, [str(tmp_path), "held"], priority=9)
    taken = [schedule(functions.write, [str(number)]) for number in range(5)]
    last = schedule(functions.write, ["last"], priority=1)
    # Nothing of this pass is to wait for a timer.
    process = manage("flush_queue", TEST_DBQ=json.dumps(ASLEEP))
    wait_until((tmp_path / "began-held").exists, "the first job began")
    beside = manage("flush_queue", "--filter", "tests.commands.functions.write", "--jobs", "5")
    assert beside.wait() == 0, beside.log()
    (tmp_path / "go-on").touch()
    assert process.wait() == 0, process.log()
    assert process.log().splitlines()[-1] == "Executed 2 of 7 due jobs"
    assert rows() == ["0", "1", "2", "3", "4", "held", "last"]
    assert facts(last)[0] == "COMPLETE" and all(job.runs.count() == 1 for job in taken)


def test_a_job_that_another_has_put_off_meanwhile_is_passed_over(manage, tmp_path):
    schedule(functions.hold, [str(tmp_path), "held"], priority=9)
    failing = schedule(functions.boom)
    process = manage("flush_queue")
    wait_until((tmp_path / "began-held").exists, "the first job began")
    beside = manage("flush_queue", "--filter", "tests.commands.functions.boom")
    assert beside.wait() == 1, beside.log()
    (tmp_path / "go-on").touch()
    assert process.wait() == 0, process.log()
    assert failing.runs.count() == 1 and rows() == ["held"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_job_end_and_leaves_the_rest(manage, tmp_path, number):
    held = schedule(functions.hold, [str(tmp_path), "held"], priority=9)
    rest = schedule(functions.write, ["rest"])
    process = manage("flush_queue")
    wait_until((tmp_path / "began-held").exists, "the job began")
    process.popen.send_signal(number)
    wait_until(lambda: facts(held)[0] == "STOPPING", "it was asked to stop")
    (tmp_path / "go-on").touch()
    assert process.wait() == 0, process.log()
    assert process.log().splitlines()[-1] == "Executed 1 of 2 due jobs"
    assert facts(held)[0] == "COMPLETE" and facts(rest) == ("NEW", 0, None, None)


def test_a_second_signal_gives_the_running_job_back(manage, tmp_path):
    job = Job.objects.create(name="hold", workspace={"folder": str(tmp_path)})
    process = manage("flush_queue")
    wait_until(lambda: [*tmp_path.glob("began-*")], "the job began")
    process.popen.terminate()
    wait_until(lambda: facts(job)[0] == "STOPPING", "it was asked to stop")
    process.popen.terminate()
    assert process.wait() == 0, process.log()
    assert facts(job) == ("NEW", 0, None, None)


def test_the_lease_of_a_long_job_is_renewed(manage):
    dbq = json.dumps({"LEASE_SECONDS": 1, "POLL_INTERVAL_SECONDS": 0.1})
    job = schedule(functions.outlast, [3, "ran"])
    process = manage("flush_queue", TEST_DBQ=dbq)
    wait_until(lambda: facts(job)[0] == "PROCESSING", "the pass has it")
    worker = manage("worker", TEST_DBQ=dbq)
    assert process.wait() == 0, process.log()
    assert rows() == [f"ran {process.pid}"] and job.runs.count() == 1
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()
    assert "Rescued" not in worker.log()


def test_the_job_of_a_pass_that_was_killed_is_taken_back_by_later_ones(manage, flush, tmp_path):
    dbq = json.dumps({"LEASE_SECONDS": 1})
    job = schedule(functions.hold, [str(tmp_path), "held"])
    process = manage("flush_queue", TEST_DBQ=dbq)
    wait_until((tmp_path / "began-held").exists, "the job began")
    process.kill()
    (tmp_path / "go-on").touch()
    wait_until(lambda: flush(TEST_DBQ=dbq)[0] == 0 and facts(job)[0] == "COMPLETE", "it was taken back")
    assert rows() == ["held"]


LOOP = (
    'while [ ! -e "$0" ]; do "$@"; sleep 0.3; done'  # A pass that fails exits with 1, and the loop goes on.
)


def test_two_flushes_and_a_worker_run_every_job_once_though_each_fails_once(manage, tmp_path):
    number = 2_000 if connection.vendor == "postgresql" else 200
    seen, done = tmp_path / "seen", tmp_path / "done"
    seen.mkdir()
    for n in range(number):
        schedule(functions.fail_once, [str(seen), f"row {n}"], meta=SOON)
    dbq = json.dumps({"POLL_INTERVAL_SECONDS": 0.1})
    flushes = [manage("flush_queue", prefix=("bash", "-c", LOOP, str(done)), TEST_DBQ=dbq) for _ in range(2)]
    wait_until(lambda: TaskRun.objects.values("worker").distinct().count() >= 2, "both flushes have run jobs")
    worker = manage("worker", TEST_DBQ=dbq)
    wait_until(
        lambda: not Job.objects.exclude(state="COMPLETE").exists(),
        "all jobs are complete",
        3 * DEADLINE_SECONDS,
    )
    done.touch()
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()
    assert [flush.wait() for flush in flushes] == [0, 0]
    assert Counter(rows()) == {f"row {n}": 1 for n in range(number)}
    outcomes = Counter(TaskRun.objects.values_list("job", "outcome"))
    assert len(outcomes) == 2 * number and set(outcomes.values()) == {1}
    assert Counter(outcome for _, outcome in outcomes) == {"failed": number, "done": number}


def test_the_loop_of_django_async_goes_on_whatever_fails(manage, tmp_path):
    schedule(functions.boom, priority=9)
    schedule(functions.write, ["after the failure"])
    loop = "while true; do python manage.py flush_queue && sleep 0.2; done"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The shell gets the command and leaves what `manage` appends alone.
    process = manage(prefix=("bash", "-c", loop), PATH=path)
    wait_until(lambda: rows() == ["after the failure"], "the pass after the failed one")
    schedule(functions.write, ["later"])
    wait_until(lambda: rows() == ["after the failure", "later"], "a later pass")
    assert process.popen.poll() is None, process.log()
    assert process.log().count("CommandError: Stopped at job") == 1
    process.popen.terminate()
    process.popen.wait(timeout=DEADLINE_SECONDS)


# What it is given.


@pytest.mark.parametrize(
    "args, message",
    [
        (["--jobs", "0"], "argument --jobs/-j: must be a whole number from 1 on, not '0'"),
        (["-j", "many"], "argument --jobs/-j: must be a whole number from 1 on, not 'many'"),
        (["--outof", "0"], "argument --outof/-o: must be a whole number from 1 on, not '0'"),
        (["--which", "first"], "argument --which/-w: invalid int value: 'first'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(args, message):
    with pytest.raises(CommandError, match=message):
        call_command("flush_queue", *args)


def test_numbers_may_be_text_where_it_is_called_from_python():
    jobs = [schedule(functions.write, [str(number)]) for number in range(4)]
    out = StringIO()
    for which in "01":
        call_command("flush_queue", jobs="300", which=which, outof="2", stdout=out)
    assert {job.pk for job in Job.objects.filter(state="COMPLETE")} == {job.pk for job in jobs}
    assert len(out.getvalue().splitlines()) == 2


@pytest.mark.parametrize("name", ["jobs", "which", "outof"])
def test_what_is_no_number_is_refused_where_it_is_called_from_python(name):
    with pytest.raises(CommandError, match=f"--{name} must be a whole number.*not 'two'"):
        call_command("flush_queue", **{name: "two"})


def test_settings_that_cannot_be_used_are_refused(settings):
    settings.JOBS = []
    with pytest.raises(CommandError, match="JOBS: must be a dictionary of job names, not list"):
        call_command("flush_queue")


def test_a_path_that_does_not_import_is_told_and_the_others_run(settings):
    settings.JOBS = {"a": ["tests.workflows.nowhere"]}
    schedule(functions.write, ["a"])
    told = StringIO()
    call_command("flush_queue", stdout=StringIO(), stderr=told)
    assert "dbq.E004" in told.getvalue() and rows() == ["a"]


def test_a_process_that_calls_it_keeps_its_signal_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    schedule(functions.write, ["a"])
    call_command("flush_queue", stdout=StringIO())
    assert rows() == ["a"]
    assert {number: signal.getsignal(number) for number in before} == before
