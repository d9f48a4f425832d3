"""How a call runs: its transaction, its result, its failures, its options."""

from __future__ import annotations

import datetime
import importlib
import sys
import threading

import freezegun
import pytest
from django.db import connection
from django.utils import timezone

from django_dbq import Job, TaskRun, schedule
from django_dbq.store import get_store
from django_dbq.testing import run_jobs
from django_dbq.worker.executor import Executor
from tests.calls import functions
from tests.calls.conftest import BOTH
from tests.calls.functions import HERE
from tests.models import Row

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)

both = pytest.mark.parametrize("way", BOTH)
by_a_worker = pytest.mark.django_db(transaction=True)


def texts():
    return sorted(Row.objects.values_list("text", flat=True))


def runs(job, *fields):
    found = TaskRun.objects.filter(job=job).order_by("claim")
    return list(found.values_list(*fields, flat=len(fields) == 1))


def delays(job, times):
    """Let a job fail so often; return the seconds it waits each time, by a clock that stands."""
    found = []
    with freezegun.freeze_time(NOW) as clock:
        for _ in range(times):
            run_jobs()
            job.refresh_from_db()
            if job.run_after is None or job.run_after <= timezone.now():
                break
            found.append((job.run_after - timezone.now()).total_seconds())
            clock.move_to(job.run_after)
    return found


# Transactions.


@both
@pytest.mark.parametrize("function", [functions.write, functions.write_async])
def test_a_call_keeps_its_writes_and_its_result(drain, way, function):
    job = drain(schedule(function, ["here"]))
    assert (job.state, job.result, job.error, texts()) == ("COMPLETE", "here", None, ["here"])
    assert runs(job, "task", "outcome", "error") == [(job.name, "done", None)]


SEEN = []


def write_and_look_from_outside():
    functions.write()

    def look():
        job = Job.objects.get(name=f"{__name__}.write_and_look_from_outside")
        SEEN.append((texts(), job.result))
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return "result"


@by_a_worker
@pytest.mark.parametrize("atomic", [True, False])
def test_nobody_sees_half_of_a_call_unless_it_is_not_atomic(drain, atomic):
    SEEN.clear()
    job = drain(schedule(write_and_look_from_outside, meta={"atomic": atomic}))
    (seen,) = SEEN
    assert seen == ([] if atomic else ["written"], None)
    assert (job.state, job.result, texts()) == ("COMPLETE", "result", ["written"])


@both
@pytest.mark.parametrize("function", [functions.write_and_fail, functions.write_and_fail_async])
def test_a_failure_rolls_its_writes_back_and_is_recorded(drain, way, function):
    before = timezone.now()
    job = drain(schedule(function))
    assert (job.state, job.attempt, job.error, texts()) == ("READY", 1, "ValueError: uh oh", [])
    assert (job.priority, job.result, job.next_task) == (4, None, job.name)
    assert 60 * SECOND <= job.run_after - before <= 70 * SECOND and not job.staged
    ((outcome, error),) = runs(job, "outcome", "error")
    assert outcome == "failed"
    assert f"in {function.__name__}\n" in error and error.rstrip().endswith("ValueError: uh oh")


@both
@pytest.mark.parametrize("function", [functions.write_and_fail, functions.write_and_fail_async])
def test_a_call_that_is_not_atomic_keeps_the_writes_of_a_failure(drain, way, function):
    job = drain(schedule(function, meta={"atomic": False}))
    assert (job.state, texts()) == ("READY", ["written"])


@both
def test_calls_are_atomic_whatever_the_rule_for_tasks_is(drain, settings, way):
    settings.DBQ = {"ATOMIC_TASKS": False}
    assert drain(schedule(functions.write_and_fail)).state == "READY" and texts() == []
    settings.DBQ = {"ATOMIC_TASKS": True}
    drain(schedule(functions.write_and_fail, meta={"atomic": False}))
    assert texts() == ["written"]


@both
def test_a_jobs_call_is_created_with_the_writes_of_the_one_that_schedules_it_or_not_at_all(drain, way):
    drain(schedule(functions.write_schedule_and_fail))
    assert texts() == [] and Job.objects.count() == 1
    drain(schedule(functions.write_and_schedule))
    assert texts() == ["by the scheduled", "written"] and Job.objects.count() == 3


# Failures.


@pytest.mark.django_db
def test_a_failed_call_waits_ever_longer_and_becomes_ever_less_urgent():
    with freezegun.freeze_time(NOW):
        job = schedule(functions.write_and_fail, priority=2)
    assert delays(job, 5) == [pytest.approx(60 * n**1.6, abs=1e-5) for n in range(1, 6)]
    assert (job.priority, job.attempt, job.state) == (-3, 5, "READY")
    assert runs(job, "outcome", "attempt") == [("failed", n) for n in range(1, 6)]


@pytest.mark.django_db
def test_a_call_that_fails_before_it_succeeds_ends_complete_without_an_error():
    with freezegun.freeze_time(NOW):
        job = schedule(functions.fail_until, [2])
    assert len(delays(job, 5)) == 2
    assert (job.state, job.result, job.error, texts()) == ("COMPLETE", "at last", None, ["written"])


@both
def test_a_call_is_tried_again_without_end(drain, way):
    job = schedule(functions.fail)
    Job.objects.filter(pk=job.pk).update(attempt=9_999)
    before = timezone.now()
    drain(job)
    assert (job.state, job.attempt) == ("READY", 10_000)
    assert 0 <= (job.run_after - before).total_seconds() - 60 * 10_000**1.6 < 60


@both
def test_a_lost_worker_makes_no_call_wait_longer(drain, way):
    job = schedule(functions.fail)
    Job.objects.filter(pk=job.pk).update(attempt=2, lost_attempts=2)
    before = timezone.now()
    drain(job)
    assert 60 * SECOND <= job.run_after - before <= 70 * SECOND
    assert job.priority == 4


@both
def test_the_priority_falls_no_lower_than_its_column_goes(drain, way):
    job = drain(schedule(functions.fail, priority=-32_768))
    assert (job.state, job.priority, job.error) == ("READY", -32_768, "ValueError: too late")


@pytest.mark.django_db
def test_a_call_whose_workers_died_too_often_fails_without_another_jobs_hooks(settings):
    name = f"{HERE}.write"
    hooks = {"failure_hook": "tests.workflows.write_row_of_failure", "post_task_hook": f"{HERE}.write"}
    settings.JOBS = {name: {"tasks": ["tests.workflows.nothing"], **hooks}}
    job = schedule(functions.write)
    (held,) = get_store("default").claim_by_id([job.pk], worker="one", lease_seconds=60)
    attempt = Executor("default", "one").fail_lost(held)
    assert attempt.transition.state == "FAILED" and "WorkerLost" in attempt.transition.error
    assert texts() == []


# meta.


@pytest.mark.django_db
@pytest.mark.parametrize(
    "retry, expected, state",
    [
        ({"max_attempts": 1}, [], "FAILED"),
        ({"max_attempts": 3}, [60, 60 * 2**1.6], "FAILED"),
        ({"max_attempts": None}, [60, 60 * 2**1.6, 60 * 3**1.6, 60 * 4**1.6], "READY"),
        ({"delay_seconds": 5}, [5, 5 * 2**1.6, 5 * 3**1.6, 5 * 4**1.6], "READY"),
        ({"max_delay_seconds": 200}, [60, 60 * 2**1.6, 200, 200], "READY"),
        ({"backoff": 3}, [60, 180, 540, 1620], "READY"),
        ({"backoff": 1.0}, [60, 60, 60, 60], "READY"),
        (
            {"backoff": 2, "delay_seconds": 10, "max_delay_seconds": 35, "max_attempts": 4},
            [10, 20, 35],
            "FAILED",
        ),
        ({"on": ["ValueError"]}, [60, 60 * 2**1.6, 60 * 3**1.6, 60 * 4**1.6], "READY"),
        ({"on": ["LookupError", "django.db.Error"]}, [], "FAILED"),
        ({"not_on": ["ValueError"]}, [], "FAILED"),
        ({}, [60, 60 * 2**1.6, 60 * 3**1.6, 60 * 4**1.6], "READY"),
    ],
    ids=str,
)
def test_meta_changes_when_a_failed_call_is_tried_again(retry, expected, state):
    with freezegun.freeze_time(NOW):
        job = schedule(functions.write_and_fail, meta={"retry": retry})
    assert delays(job, 4) == [pytest.approx(seconds, abs=1e-5) for seconds in expected]
    assert (job.state, job.priority) == (state, 5 - len(expected))


@pytest.mark.django_db
def test_a_delay_may_be_drawn_by_lot():
    with freezegun.freeze_time(NOW):
        job = schedule(functions.fail, meta={"retry": {"jitter": True}})
    (delay,) = delays(job, 1)
    assert 0 < delay < 60


@both
@pytest.mark.parametrize("function", [functions.wait, functions.wait_async])
def test_a_call_that_takes_too_long_fails(drain, way, function):
    job = drain(schedule(function, [30], meta={"timeout_seconds": 0.2}))
    assert (job.state, job.attempt) == ("READY", 1)
    path = f"{HERE}.{function.__name__}"
    assert job.error.endswith(f"TaskTimeout: {path} ran longer than its timeout_seconds, 0.2")


@both
def test_a_call_waits_under_the_queue_that_meta_names(drain, way):
    job = schedule(functions.write, meta={"queue_name": "other"})
    assert Job.objects.get(pk=job.pk).queue_name == "other"
    if connection.in_atomic_block:
        run_jobs("default")
        assert texts() == []
    assert drain(job).state == "COMPLETE"


# What a call returns or raises.


@both
@pytest.mark.parametrize(
    "function, message",
    [
        (functions.write_and_return_an_object, "result: Object of type object is not JSON serializable"),
        (functions.write_and_go_to, "result: Object of type GoTo is not JSON serializable"),
    ],
)
def test_a_result_that_is_not_json_fails_the_attempt(drain, way, function, message):
    job = drain(schedule(function))
    assert (job.state, job.attempt, job.result, texts()) == ("READY", 1, None, [])
    assert job.error == f"django_dbq.exceptions.WorkspaceError: {message}"


@both
def test_a_result_over_the_limit_fails_the_attempt(drain, settings, way):
    settings.DBQ = {"WORKSPACE_BYTES_MAX": 300}
    job = drain(schedule("builtins.str.__mul__", ["x" * 10, 100]))
    assert job.state == "READY" and "result is 1,002 bytes as JSON; at most 300 are kept" in job.error


@both
def test_a_call_may_return_nothing(drain, way):
    job = drain(schedule(functions.nothing))
    assert (job.state, job.result) == ("COMPLETE", None)


@both
def test_a_call_may_return_snooze_and_uses_no_attempt(drain, way):
    job = drain(schedule(functions.write_and_snooze))
    assert (job.state, job.attempt, job.error, job.priority, texts()) == ("READY", 0, None, 5, ["written"])
    assert 50 * SECOND < job.run_after - timezone.now() <= 60 * SECOND
    Job.objects.filter(pk=job.pk).update(run_after=timezone.now() - SECOND)
    drain(job)
    assert (job.state, job.result) == ("COMPLETE", "awake")
    assert runs(job, "outcome", "attempt") == [("snooze", 1), ("done", 1)]


@both
def test_a_call_may_return_finish(drain, way):
    job = drain(schedule(functions.write_and_finish))
    assert (job.state, job.result, texts()) == ("COMPLETE", {"finished": True}, ["written"])


@both
def test_a_call_may_raise_retry_with_a_delay_of_its_own(drain, way):
    job = drain(schedule(functions.write_and_retry))
    assert (job.state, job.attempt, job.priority, texts()) == ("READY", 1, 4, [])
    assert 290 * SECOND < job.run_after - timezone.now() <= 300 * SECOND


@both
def test_a_call_may_raise_abort(drain, way):
    job = drain(schedule(functions.write_and_abort))
    assert (job.state, job.error, texts()) == ("FAILED", "django_dbq.exceptions.Abort: no use", [])
    assert job.priority == 5


@both
def test_a_call_that_ended_may_run_again(drain, way):
    job = drain(schedule(functions.write))
    assert job.retry()
    drain(job)
    assert (job.state, job.attempt, texts()) == ("COMPLETE", 1, ["written", "written"])
    job = schedule(functions.write_and_fail, meta={"retry": {"max_attempts": 1}})
    assert drain(job).state == "FAILED"
    assert job.retry(from_start=True)
    assert drain(job).state == "FAILED" and len(runs(job, "pk")) == 2


# A function that has gone.


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write the module `dbq_passing`, as a deploy would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def deploy(text):
        (tmp_path / "dbq_passing.py").write_text(text)
        sys.modules.pop("dbq_passing", None)
        importlib.invalidate_caches()

    yield deploy
    sys.modules.pop("dbq_passing", None)


GOOD = "class Things:\n    @staticmethod\n    def function():\n        return 'here'\n"


@both
@pytest.mark.parametrize(
    "text, why",
    [
        ("", "does not import: ImportError: dbq_passing has no attribute 'Things'"),
        (
            "class Things: pass",
            "does not import: ImportError: dbq_passing.Things has no attribute 'function'",
        ),
        (
            GOOD.replace("@staticmethod", ""),
            "is a method of instances; static and class methods can be called",
        ),
        ("class Things: function = 5", "is not callable"),
        ("raise LookupError('broken')", "does not import: LookupError: broken"),
        ("import sys; sys.exit(3)", "does not import: SystemExit: 3"),
        ("raise BaseException('bad')", "does not import: BaseException: bad"),
        ("import there_is_none", "does not import: ModuleNotFoundError: No module named 'there_is_none'"),
        ("def", "does not import: SyntaxError: invalid syntax"),
    ],
)
def test_a_call_whose_function_has_gone_waits_and_goes_on_when_it_is_back(
    drain, module, settings, way, text, why
):
    settings.DBQ = {"PARK_SECONDS": 1_000}
    module(GOOD)
    job = schedule("dbq_passing.Things.function")
    module(text)
    other = schedule(functions.write)
    drain(job)
    assert (job.state, job.attempt, job.priority) == ("NEW", 0, 5)
    assert "the function 'dbq_passing.Things.function'" in job.error and why in job.error
    assert 900 * SECOND < job.run_after - timezone.now() <= 1_000 * SECOND
    assert runs(job, "outcome") == []
    other.refresh_from_db()
    assert other.state == "COMPLETE"
    module(GOOD)
    Job.objects.filter(pk=job.pk).update(run_after=timezone.now() - SECOND)
    drain(job)
    assert (job.state, job.result, job.error) == ("COMPLETE", "here", None)
