"""django_dbq.backend does what django.tasks documents, and what a job adds to that."""

from __future__ import annotations

import datetime
import logging
import os
import sys
import uuid
from importlib import import_module

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone

from django_dbq import BadSignature, CallError, Job, WorkerLost, schedule
from django_dbq.backend import (
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from django_dbq.store import get_store
from django_dbq.testing import run_jobs
from django_dbq.worker.executor import Executor
from tests import backend_tasks as tasks
from tests.conftest import wait_until
from tests.models import Row

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
SUCCESSFUL, FAILED = TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED
# What `manage.py check` calls.
check_tasks = import_module(f"{type(task_backends).__module__}.checks").check_tasks
WHERE = "TASKS['default']['OPTIONS']"

in_a_transaction = pytest.mark.django_db
by_a_worker = pytest.mark.django_db(transaction=True)


def job_of(result):
    return Job.objects.get(pk=result.id)


def texts():
    return sorted(Row.objects.values_list("text", flat=True))


def ran(result):
    """Return the result once all that is due has run."""
    run_jobs()
    result.refresh()
    return result


def lose(result, worker="the dead"):
    """Have a worker take the task and die."""
    store = get_store("default")
    store.claim(["default"], worker=worker, limit=1, lease_seconds=-1)
    store.rescue(worker="the living", lease_seconds=60, lost_attempts_max=3)
    result.refresh()


@pytest.fixture
def heard():
    """Collect the signals as they come: which, from whom, in which status, with which exception."""
    found = []

    def receiver(signal, sender, task_result, **kwargs):
        found.append((names[signal], sender, task_result.id, task_result.status, sys.exc_info()[0]))

    names = {task_enqueued: "enqueued", task_started: "started", task_finished: "finished"}
    for signal in names:
        signal.connect(receiver)
    yield found
    for signal in names:
        signal.disconnect(receiver)


# What the backend can do.


def test_the_backend_can_do_all_that_a_backend_can():
    backend = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


# Enqueueing.


@in_a_transaction
def test_an_enqueued_task_is_a_job_that_waits():
    before = timezone.now()
    result = tasks.report.enqueue()
    assert (result.status, result.is_finished, result.attempts, result.errors) == (READY, False, 0, [])
    assert before <= result.enqueued_at <= timezone.now()
    assert result.started_at is result.finished_at is result.last_attempted_at is None
    assert (result.task, result.backend, result.worker_ids) == (tasks.report, "default", [])
    job = job_of(result)
    assert (job.name, job.queue_name, job.priority) == ("tests.backend_tasks.report", "reports", 7)
    assert (job.state, job.run_after) == ("NEW", None)
    with pytest.raises(ValueError, match="not finished"):
        result.return_value  # noqa: B018


@in_a_transaction
@pytest.mark.parametrize("task", [tasks.echo, tasks.echo_async])
def test_a_task_that_ran_has_its_result_and_its_times(task):
    result = ran(task.enqueue(1, "two", three=[3]))
    assert (result.status, result.is_finished) == (SUCCESSFUL, True)
    assert result.return_value == {"args": [1, "two"], "kwargs": {"three": [3]}}
    assert (result.worker_ids, result.attempts, result.errors) == (["run_jobs"], 1, [])
    assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at


@in_a_transaction
def test_arguments_are_normalised_as_django_does():
    result = tasks.echo.enqueue((1, (2,)), b"bytes", **{"$": {"$": ["tuple", [1]]}})
    assert (result.args, result.kwargs) == ([[1, [2]], "bytes"], {"$": {"$": ["tuple", [1]]}})
    found = ran(result).task.get_result(result.id)
    assert (found.args, found.kwargs) == (result.args, result.kwargs)
    assert found.return_value == {"args": result.args, "kwargs": result.kwargs}


@in_a_transaction
@pytest.mark.parametrize("value", [object(), {1, 2}, datetime.date(2026, 1, 1)], ids=str)
def test_arguments_that_are_not_json_are_refused_and_nothing_is_written(value, heard):
    with pytest.raises(TypeError):
        tasks.echo.enqueue(value)
    with pytest.raises(TypeError):
        tasks.echo.enqueue(key=value)
    assert not Job.objects.exists()
    assert heard == []


@in_a_transaction
def test_arguments_that_are_too_large_are_refused_by_name():
    with pytest.raises(CallError, match="WORKSPACE_BYTES_MAX"):
        tasks.echo.enqueue("x" * 2_000_000)
    assert not Job.objects.exists()


@in_a_transaction
def test_a_queue_that_is_not_in_queues_is_refused():
    with pytest.raises(InvalidTask, match="'nowhere' is not valid"):
        tasks.echo.using(queue_name="nowhere")
    result = tasks.echo.using(backend="tuned", queue_name="anywhere").enqueue()
    assert job_of(result).queue_name == "anywhere"


@in_a_transaction
@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_a_priority_that_django_does_not_have_is_refused(priority):
    with pytest.raises(InvalidTask, match="priority must be a whole number between -100 and 100"):
        tasks.echo.using(priority=priority)


@in_a_transaction
def test_the_higher_priority_runs_first():
    for priority in (-100, 100, 0):
        tasks.write.using(priority=priority).enqueue(f"{priority}")
    run_jobs()
    assert [*Row.objects.order_by("pk").values_list("text", flat=True)] == ["100", "0", "-100"]


@in_a_transaction
def test_a_deferred_task_waits_for_its_time():
    later = timezone.now() + datetime.timedelta(hours=1)
    result = tasks.echo.using(run_after=later).enqueue()
    assert ran(result).status == READY
    assert tasks.echo.get_result(result.id).task.run_after == later
    with pytest.raises(InvalidTask, match="aware datetime"):
        tasks.echo.using(run_after=later.replace(tzinfo=None))


@in_a_transaction
def test_a_task_whose_name_leads_to_something_else_is_refused():
    with pytest.raises(InvalidTask, match=r"tests\.backend_tasks\.hidden' leads to .* not to this task"):
        tasks.under_another_name.enqueue()
    with pytest.raises(InvalidTask, match=r"tests\.backend_tasks\.defined_twice' leads to .* not to this"):
        tasks.the_first.enqueue()
    assert not Job.objects.exists()


@by_a_worker
def test_a_task_enqueued_in_a_transaction_that_rolls_back_never_existed():
    with pytest.raises(RuntimeError), transaction.atomic():
        result = tasks.echo.enqueue()
        raise RuntimeError
    with pytest.raises(TaskResultDoesNotExist):
        tasks.echo.get_result(result.id)


@by_a_worker
def test_a_task_is_enqueued_and_looked_up_from_a_coroutine():
    async def enqueue():
        result = await tasks.echo_async.aenqueue("async")
        await result.arefresh()
        return result, await tasks.echo_async.aget_result(result.id)

    result, found = async_to_sync(enqueue)()
    assert (result.status, found.id, found.args) == (READY, result.id, ["async"])
    assert ran(result).return_value == {"args": ["async"], "kwargs": {}}


@pytest.mark.django_db(transaction=True, databases=["default", "jobs"])
def test_a_backend_may_keep_its_tasks_in_another_database():
    result = tasks.echo.using(backend="apart").enqueue()
    assert not Job.objects.using("default").exists()
    assert Job.objects.using("jobs").get().pk == uuid.UUID(result.id)
    run_jobs(database="jobs")
    result.refresh()
    assert (result.status, result.backend) == (SUCCESSFUL, "apart")


# Looking results up.


@in_a_transaction
def test_a_result_that_is_none_of_a_task_does_not_exist():
    named, called = Job.objects.create(name="nothing"), schedule("tests.calls.functions.nothing")
    for result_id in (uuid.uuid4(), str(uuid.uuid4()), "no id", "", named.pk, called.pk):
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(result_id)
    with pytest.raises(TaskResultDoesNotExist, match=r"no task of django\.tasks"):
        task_backends["default"].get_result(called.pk)


@in_a_transaction
def test_the_result_of_another_task_does_not_match():
    result = tasks.echo.enqueue()
    with pytest.raises(Exception, match="does not match") as caught:
        tasks.write.get_result(result.id)
    assert type(caught.value).__name__ == "TaskResultMismatch"


@in_a_transaction
def test_a_result_has_the_task_as_it_was_enqueued():
    task = tasks.echo.using(priority=3, queue_name="reports")
    assert tasks.echo.get_result(task.enqueue().id).task == task


@in_a_transaction
@pytest.mark.parametrize(
    ("state", "status"),
    [
        *[("NEW", READY), ("READY", READY), ("WAITING", READY)],
        *[("PROCESSING", RUNNING), ("STOPPING", RUNNING)],
        *[("COMPLETE", SUCCESSFUL), ("FAILED", FAILED), ("CANCELLED", FAILED)],
    ],
)
def test_every_state_of_a_job_has_its_status(state, status):
    result = tasks.echo.enqueue()
    Job.objects.filter(pk=result.id).update(state=state)
    result.refresh()
    assert result.status == status


@in_a_transaction
def test_a_running_task_names_the_worker_that_has_it():
    result = tasks.echo.enqueue()
    get_store("default").claim(["default"], worker="mine", limit=1, lease_seconds=60)
    result.refresh()
    assert (result.status, result.worker_ids, result.attempts) == (RUNNING, ["mine"], 1)
    assert result.started_at == result.last_attempted_at
    assert result.finished_at is None


@in_a_transaction
def test_a_job_that_was_moved_to_another_queue_is_still_found_and_run():
    result = tasks.echo.enqueue()
    job = job_of(result)
    job.queue_name = "not in QUEUES"
    job.save()
    assert tasks.echo.get_result(result.id).task.queue_name == "not in QUEUES"
    assert ran(result).status == SUCCESSFUL


@in_a_transaction
def test_a_changed_row_is_neither_run_nor_shown():
    result = tasks.write.enqueue("mine")
    Job.objects.filter(pk=result.id).update(call=job_of(result).call.replace("mine", "evil"))
    with pytest.raises(BadSignature):
        tasks.write.get_result(result.id)
    run_jobs()
    assert (job_of(result).state, texts()) == ("FAILED", [])


@in_a_transaction
def test_a_task_that_has_gone_waits_for_its_return_and_has_no_result_until_then(monkeypatch):
    result = tasks.echo.enqueue()
    with monkeypatch.context() as patch:
        patch.delattr(tasks, "echo")
        run_jobs()
        assert job_of(result).state == "NEW"
        assert "has no attribute 'echo'" in job_of(result).error
        with pytest.raises(TaskResultDoesNotExist, match="has no attribute 'echo'"):
            task_backends["default"].get_result(result.id)
        patch.setattr(tasks, "echo", len, raising=False)
        with pytest.raises(TaskResultDoesNotExist, match="is not a task"):
            task_backends["default"].get_result(result.id)
    assert tasks.echo.get_result(result.id).status == READY


# Failing.


@in_a_transaction
@pytest.mark.parametrize("task", [tasks.write_and_fail.using(), tasks.fail_async])
def test_a_task_that_raises_fails_at_once_with_its_error(task):
    result = ran(task.enqueue(*["text"][: task is not tasks.fail_async]))
    assert (result.status, result.is_finished, result.attempts) == (FAILED, True, 1)
    [error] = result.errors
    assert error.exception_class is tasks.Refused
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert "Refused: not" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018


@in_a_transaction
@pytest.mark.parametrize(
    ("fault", "path"),
    [
        ("builtin", "builtins.KeyError"),
        ("project", "tests.backend_tasks.Refused"),
        ("in a class", "tests.backend_tasks.Outer.Inner"),
        ("caused", "builtins.ValueError"),
        ("handled", "builtins.LookupError"),
        ("group", "builtins.ExceptionGroup"),
        ("syntax", "builtins.SyntaxError"),
        ("exit", "builtins.SystemExit"),
    ],
)
def test_an_error_names_the_class_that_was_raised(fault, path):
    [error] = ran(tasks.fail_with.enqueue(fault)).errors
    assert error.exception_class_path == path


@in_a_transaction
def test_a_result_that_is_not_json_fails_the_task():
    result = ran(tasks.return_an_object.enqueue())
    assert result.status == FAILED
    assert result.errors[0].exception_class is TypeError


@in_a_transaction
def test_a_cancelled_task_has_failed():
    result = tasks.echo.enqueue()
    job_of(result).cancel()
    result.refresh()
    assert (result.status, result.errors) == (FAILED, [])


@in_a_transaction
def test_a_task_whose_worker_was_lost_runs_again_though_it_has_one_attempt():
    result = tasks.look.enqueue()
    lose(result)
    assert (result.status, result.worker_ids) == (READY, ["the dead"])
    assert ran(result).status == SUCCESSFUL
    assert result.worker_ids == ["the dead", "run_jobs"]
    assert result.return_value["attempt"] == 2
    assert [error.exception_class_path for error in result.errors] == ["django_dbq.exceptions.WorkerLost"]


@in_a_transaction
def test_a_task_whose_workers_are_lost_too_often_fails_with_each_loss():
    result, store = tasks.echo.enqueue(), get_store("default")
    lose(result)
    lose(result)
    store.claim(["default"], worker="the dead", limit=1, lease_seconds=-1)
    _, [spent] = store.rescue(worker="the living", lease_seconds=60, lost_attempts_max=3)
    failed = Executor("default", "the living").fail_lost(spent)
    store.record([failed.transition], worker="the living", lease_seconds=60)
    result.refresh()
    assert (result.status, result.worker_ids) == (FAILED, ["the dead"] * 3)
    assert [error.exception_class for error in result.errors] == [WorkerLost] * 3


# The context.


@in_a_transaction
def test_a_task_that_takes_the_context_is_told_which_attempt_it_is():
    result = ran(tasks.look.using(queue_name="reports").enqueue("argument"))
    assert result.return_value == {
        "attempt": 1,
        "id": result.id,
        "status": "RUNNING",
        "args": ["argument"],
        "errors": [],
        "began": True,
        "backend": "default",
        "queue": "reports",
        "workers": 1,
    }
    assert ran(tasks.look_async.enqueue()).return_value == 1


@in_a_transaction
def test_the_context_counts_attempts_and_has_the_errors_before():
    result = ran(tasks.look.using(backend="tuned", queue_name="default").enqueue("fail twice"))
    assert (result.status, result.attempts, result.worker_ids) == (SUCCESSFUL, 3, ["run_jobs"] * 3)
    assert result.return_value["attempt"] == 3
    assert result.return_value["errors"] == ["tests.backend_tasks.Refused"] * 2
    assert len(result.errors) == 2


@in_a_transaction
def test_a_task_may_snooze_and_finish_which_counts_no_attempt():
    result = ran(tasks.snooze_once.enqueue())
    assert (result.return_value, result.attempts) == ("awake", 1)


# Signals.


@in_a_transaction
@pytest.mark.parametrize("task", [tasks.echo, tasks.echo_async])
def test_signals_are_sent_around_a_task_that_succeeds(task, heard):
    backend = type(task_backends["default"])
    result = task.enqueue()
    assert heard == [("enqueued", backend, result.id, READY, None)]
    run_jobs()
    assert heard[1:] == [
        ("started", backend, result.id, RUNNING, None),
        ("finished", backend, result.id, SUCCESSFUL, None),
    ]


@in_a_transaction
@pytest.mark.parametrize("backend", ["default", "tuned"])  # The one atomic, the other not.
def test_task_finished_is_sent_once_all_attempts_failed_with_the_exception_at_hand(heard, backend, caplog):
    logging.getLogger("django.tasks").setLevel(logging.INFO)
    tasks.write_and_fail.using(backend=backend).enqueue("text")
    run_jobs()
    attempts = {"default": 1, "tuned": 3}[backend]
    assert [name for name, *_ in heard] == ["enqueued", *["started"] * attempts, "finished"]
    assert heard[-1][3:] == (FAILED, tasks.Refused)
    logged = [record for record in caplog.records if record.name in ("django.tasks", "django_tasks")]
    assert logged[-1].exc_info[0] is tasks.Refused


@in_a_transaction
def test_task_finished_has_what_the_lookup_has_afterwards():
    finished = []

    def receiver(task_result, **kwargs):
        finished.append(task_result)

    task_finished.connect(receiver)
    try:
        good, bad = ran(tasks.echo.enqueue(1)), ran(tasks.fail_with.enqueue("caused"))
    finally:
        task_finished.disconnect(receiver)
    assert finished[0].return_value == good.return_value
    assert finished[0].worker_ids == good.worker_ids
    assert finished[0].finished_at is not None
    assert finished[1].errors == bad.errors


@in_a_transaction
def test_a_receiver_that_raises_changes_nothing_and_the_next_one_hears_too():
    def receiver(**kwargs):
        raise RuntimeError("receiver")

    def next_receiver(signal, **kwargs):
        heard.append(signal)

    heard, signals = [], (task_enqueued, task_started, task_finished)
    for signal in signals:
        signal.connect(receiver)
        signal.connect(next_receiver)
    try:
        result = ran(tasks.echo.enqueue())
    finally:
        for signal in signals:
            signal.disconnect(receiver)
            signal.disconnect(next_receiver)
    assert result.status == SUCCESSFUL
    assert heard == [*signals]


# Options.


@by_a_worker
@pytest.mark.parametrize(
    ("dbq", "backend", "kept"),
    [
        ({}, "default", ["text"]),
        ({"ATOMIC_TASKS": True}, "default", []),
        ({"ATOMIC_TASKS": False}, "tuned", []),
    ],
)
def test_a_task_is_atomic_where_the_backend_or_dbq_says_so(settings, dbq, backend, kept):
    settings.DBQ = dbq
    result = ran(tasks.write_and_fail.using(backend=backend).enqueue("text"))
    assert (result.status, sorted(set(texts()))) == (FAILED, kept)


@in_a_transaction
def test_a_retried_task_keeps_its_priority():
    result = tasks.write_and_fail.using(backend="tuned", priority=5).enqueue("text")
    run_jobs()
    assert (job_of(result).state, job_of(result).priority) == ("FAILED", 5)


@in_a_transaction
def test_a_task_has_the_time_limit_of_its_backend():
    result = ran(tasks.sleep.using(backend="tuned").enqueue(30))
    assert result.errors[-1].exception_class_path == "django_dbq.exceptions.TaskTimeout"


BAD_OPTIONS = [
    ([], "dbq.E021", f"{WHERE}: must be a dictionary, not list ([])"),
    ({"atomic": 1}, "dbq.E021", f"{WHERE}['atomic']: must be True or False, not 1"),
    ({"database": 1}, "dbq.E021", f"{WHERE}['database']: must be the alias of a database, not int (1)"),
    ({"retries": 3}, "dbq.E022", f"{WHERE}: has no option 'retries'. Did you mean 'retry'?"),
    ({"queue": ""}, "dbq.E022", f"{WHERE}: has no option 'queue'. Known: atomic, database, retry,"),
    ({"timeout_seconds": 0}, "dbq.E023", f"{WHERE}['timeout_seconds']: must be at least 0.001, not 0"),
    ({"retry": {"max_attempts": 0}}, "dbq.E023", f"{WHERE}['retry']['max_attempts']: must be at least 1"),
    ({"database": "elsewhere"}, "dbq.E023", f"{WHERE}['database']: 'elsewhere' is not in DATABASES"),
    ({"retry": {"on": ["ValueErro"]}}, "dbq.E004", f"{WHERE}['retry']['on']: 'ValueErro' does not import"),
]


@in_a_transaction
@pytest.mark.parametrize(("options", "check_id", "message"), BAD_OPTIONS, ids=lambda value: str(value)[:40])
def test_a_bad_option_is_found_by_the_check_and_nothing_is_enqueued_with_it(
    settings, options, check_id, message
):
    settings.TASKS = {"default": {"BACKEND": "django_dbq.backend.JobBackend", "OPTIONS": options}}
    [error] = check_tasks()
    assert error.id == check_id
    assert error.msg.startswith(message)
    if check_id in ("dbq.E021", "dbq.E022") or "at least" in message:
        with pytest.raises(InvalidTaskBackend) as caught:
            tasks.echo.enqueue()
        assert message in str(caught.value)


def test_the_check_finds_nothing_in_good_options():
    assert [*check_tasks()] == []


# A worker.


@by_a_worker
def test_a_worker_runs_tasks_beside_named_jobs(manage):
    good = tasks.echo.enqueue("here")
    coroutine = tasks.echo_async.using(queue_name="reports").enqueue()
    context = tasks.look.enqueue()
    bad = tasks.write_and_fail.enqueue("kept")
    named = Job.objects.create(name="nothing")
    worker = manage("worker", "default", "reports")
    wait_until(lambda: all(_finished(result) for result in (good, coroutine, context, bad)), "all ran")
    wait_until(lambda: Job.objects.get(pk=named.pk).state == "COMPLETE", "the named job ran")
    assert good.return_value == {"args": ["here"], "kwargs": {}}
    assert (coroutine.status, context.return_value["attempt"]) == (SUCCESSFUL, 1)
    assert (bad.status, bad.errors[0].exception_class, texts()) == (FAILED, tasks.Refused, ["kept"])
    assert str(worker.pid) in good.worker_ids[0]
    assert str(os.getpid()) not in good.worker_ids[0]
    assert good.worker_ids == bad.worker_ids


def _finished(result):
    result.refresh()
    return result.is_finished
