"""What a task and its hooks may do, and what becomes of the job: in run_jobs and in a worker."""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import logging
import signal
import sys
import threading
import time
import types
import uuid
import weakref
from decimal import Decimal
from io import StringIO

import freezegun
import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, OperationalError, connection, connections, transaction
from django.db.backends.signals import connection_created
from django.urls import reverse_lazy
from django.utils import timezone

from django_dbq import (
    Abort,
    DBQError,
    Finish,
    GoTo,
    Job,
    Retry,
    Snooze,
    TaskRun,
    TaskTimeout,
    WorkerLost,
    WorkspaceError,
)
from django_dbq.signals import post_execute, post_execute_in_worker, post_spawn
from django_dbq.testing import run_jobs
from django_dbq.worker.executor import Executor
from tests.conftest import wait_until
from tests.models import Row

CALLS = []  # What ran, in order.
NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


def path(function):
    return function if isinstance(function, str) else f"{__name__}.{function.__name__}"


def work(*queue_names):
    """Run the worker command in this process until nothing is due."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)}
    try:
        call_command("worker", *queue_names, burst=True, stdout=StringIO())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def drain():
    """Run what is due in every queue, in the way that the test is run."""
    if connection.in_atomic_block:
        run_jobs()
    elif names := [*Job.get_queue_depths()]:
        work(*names)


# Each test runs twice: inside the transaction of a TestCase, and by a worker, that has none.
both = pytest.mark.parametrize(
    "way",
    [
        pytest.param("run_jobs", marks=pytest.mark.django_db),
        pytest.param("worker", marks=pytest.mark.django_db(transaction=True)),
    ],
)
by_a_worker = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def calls():
    CALLS.clear()


@pytest.fixture
def create(settings):
    """Create a job of these tasks: functions, or dictionaries of a task's options."""

    def create(*tasks, workspace=None, name="job", **options):
        listed = [
            {**task, "task": path(task["task"])} if isinstance(task, dict) else path(task) for task in tasks
        ]
        hooks = {key: path(value) if key.endswith("_hook") else value for key, value in options.items()}
        settings.JOBS = {**getattr(settings, "JOBS", {}), name: {"tasks": listed, **hooks}}
        return Job.objects.create(name=name, workspace=workspace or {})

    settings.JOBS = {"good": [path(nothing)]}
    return create


def done(job):
    """Drain, and return the job as it is then."""
    drain()
    job.refresh_from_db()
    return job


def texts():
    return sorted(Row.objects.values_list("text", flat=True))


def runs(job, *fields):
    return list(TaskRun.objects.filter(job=job).order_by("claim").values_list(*fields, flat=len(fields) == 1))


# Tasks that many tests share.


def nothing(job):
    CALLS.append("nothing")


def boom(job):
    CALLS.append("boom")
    raise ValueError("uh oh")


def see(job):
    CALLS.append(job.workspace)


def count(job):
    job.workspace["count"] = job.workspace.get("count", 0) + 1


def write(job):
    Row.objects.create(text="written")
    job.workspace["written"] = True
    job.result = "written"
    Job.objects.create(name="good")


def write_and_boom(job):
    write(job)
    raise ValueError("uh oh")


# Returning.


def answer(job):
    return {"answer": 42}


def leave_result(job):
    job.result = {"price": Decimal("1.50")}


@both
def test_what_a_task_returns_otherwise_is_ignored_and_it_may_leave_a_result(create, way):
    job = done(create(answer))
    assert (job.state, job.next_task, job.workspace, job.result) == ("COMPLETE", "", {}, None)
    job = done(create(leave_result, nothing))
    assert (job.state, job.result) == ("COMPLETE", {"price": "1.50"})


@both
def test_a_task_may_stand_more_than_once_in_the_list(create, way):
    job = done(create(count, nothing, count, count))
    assert (job.state, job.workspace) == ("COMPLETE", {"count": 3})
    assert runs(job, "position", "attempt", "outcome") == [(n, 1, "done") for n in range(4)]


@both
def test_a_finished_job_has_its_times_and_holds_nothing(create, way):
    job = done(create(nothing))
    assert job.created <= job.started <= job.finished
    assert (job.claimed_by, job.lease_until, job.error) == (None, None, None)
    job = done(create(boom))
    assert job.started <= job.finished and (job.claimed_by, job.lease_until) == (None, None)


# The workspace.


def put_python_values(job):
    job.workspace |= {
        "when": datetime.datetime(2026, 1, 31, 8, tzinfo=datetime.UTC),
        "price": Decimal("1.50"),
        "id": uuid.UUID(int=1),
        "pair": (1, 2),
        7: "seven",
    }
    CALLS.append(job.workspace)


@both
def test_each_task_sees_the_workspace_as_recorded(create, way):
    job = done(create(put_python_values, see))
    recorded = {
        "when": "2026-01-31T08:00:00Z",
        "price": "1.50",
        "id": str(uuid.UUID(int=1)),
        "pair": [1, 2],
        "7": "seven",
    }
    assert CALLS[1] == job.workspace == recorded and CALLS[1] is not CALLS[0]


def keep_hold(job):
    job.workspace["list"] = ["recorded"]
    CALLS.append(job.workspace["list"])


def append_to_what_was_held(job):
    CALLS.pop().append("late")
    CALLS.append(job.workspace["list"])


@both
def test_a_task_cannot_change_what_an_earlier_one_recorded(create, way):
    job = done(create(keep_hold, append_to_what_was_held, see))
    assert job.workspace == {"list": ["recorded"]}


def replace(job):
    job.workspace = {"new": 1}


def set_to_nothing(job):
    job.workspace = None


@both
def test_a_task_may_replace_the_workspace_and_the_history_shows_what_changed(create, way):
    job = done(create(replace, nothing, count, workspace={"old": 1, "new": 0}))
    assert job.workspace == {"new": 1, "count": 1}
    assert runs(job, "changes") == [{"set": {"new": 1}, "unset": ["old"]}, None, {"set": {"count": 1}}]


def spoil(job):
    CALLS.append("spoil")
    value = {
        "object": object(),
        "nan": float("nan"),
        "infinite": float("-inf"),
        "nul": "a\0b",
        "surrogate": "\ud800",
        "big": "x" * 200,
        "keys": {(1,): 2},
        "set": {1},
    }[job.workspace["how"]]
    job.workspace["good"] = True
    job.workspace["deep"] = [{"bad": value}]


@both
@pytest.mark.parametrize("how", ["object", "nan", "infinite", "nul", "surrogate", "big", "keys", "set"])
def test_a_workspace_that_cannot_be_kept_fails_the_attempt_and_names_the_key(create, settings, way, how):
    settings.DBQ = {"WORKSPACE_BYTES_MAX": 150}
    good = create(nothing, name="good")
    job = done(create(count, spoil, nothing, workspace={"how": how}))
    assert job.state == "FAILED"
    assert job.error.startswith("django_dbq.exceptions.WorkspaceError: workspace")
    assert ("['deep'][0]['bad']" in job.error) or how == "big"
    assert job.workspace == {"how": how, "count": 1}
    assert runs(job, "outcome") == ["done", "failed"]
    good.refresh_from_db()
    assert good.state == "COMPLETE"


@both
def test_a_workspace_that_is_no_dictionary_fails_the_attempt(create, way):
    job = done(create(set_to_nothing, workspace={"a": 1}))
    assert (job.state, job.workspace) == ("FAILED", {"a": 1}) and "must be a dictionary" in job.error


def spoil_result(job):
    job.workspace["kept"] = True
    job.result = {"bad": object()}


@both
def test_a_result_that_cannot_be_kept_fails_the_attempt(create, way):
    job = done(create(spoil_result))
    assert (job.state, job.result) == ("FAILED", None) and "result['bad']" in job.error


def fill(job):
    job.workspace = {"a": "x" * (DBQ_MAX - 9)}


DBQ_MAX = 100


@both
def test_a_workspace_may_be_exactly_as_big_as_allowed(create, settings, way):
    settings.DBQ = {"WORKSPACE_BYTES_MAX": DBQ_MAX}
    job = done(create(fill, nothing))
    assert job.state == "COMPLETE" and len(job.workspace["a"]) == DBQ_MAX - 9


# save() in a task.


def save_then_retry(job):
    CALLS.append(dict(job.workspace))
    job.workspace["saved"] = True
    job.result = "so far"
    job.priority = 9
    job.save()
    seen = Job.objects.get(pk=job.pk)
    CALLS.append((seen.workspace, seen.result, seen.state, seen.next_task))
    job.workspace["unsaved"] = True
    if job.attempt == 1:
        raise Retry(0)


@both
def test_a_task_may_save_what_it_has_so_far(create, way):
    job = done(create({"task": save_then_retry, "retry": {"max_attempts": 2}}))
    saved = ({"saved": True}, "so far", "PROCESSING", path(save_then_retry))
    assert [{}, saved, {"saved": True}, saved] == CALLS
    assert job.state == "COMPLETE" and job.workspace == {"saved": True, "unsaved": True}


def save_fields(job):
    job.workspace["a"] = 1
    job.save(update_fields=["workspace"])
    job.refresh_from_db()
    CALLS.append(job.workspace)


async def save_in_async(job):
    job.workspace["a"] = 1
    await job.asave()
    CALLS.append((await Job.objects.aget(pk=job.pk)).workspace)


@both
@pytest.mark.parametrize("task", [save_fields, save_in_async])
def test_saving_in_a_task_takes_the_usual_forms(create, way, task):
    assert done(create(task)).state == "COMPLETE"
    assert CALLS == [{"a": 1}]


def save_spoiled(job):
    job.workspace["bad"] = object()
    try:
        job.save()
    except WorkspaceError as error:
        CALLS.append(str(error))
    del job.workspace["bad"]


@both
def test_saving_what_cannot_be_kept_is_an_error_in_the_task(create, way):
    assert done(create(save_spoiled)).state == "COMPLETE"
    assert CALLS == ["workspace['bad']: Object of type object is not JSON serializable"]


def save_after_losing_the_claim(job):
    Job.objects.filter(pk=job.pk).update(claim=job.claim + 1, claimed_by="another")
    job.workspace["late"] = True
    job.save()


@by_a_worker
def test_a_task_that_has_lost_its_claim_can_write_nothing(create):
    job = done(create(save_after_losing_the_claim))
    assert (job.state, job.claimed_by, job.workspace, job.error) == ("PROCESSING", "another", {}, None)
    assert runs(job, "outcome") == []


# Directives.


def snooze_twice(job):
    count(job)
    return Snooze(0) if job.workspace["count"] < 3 else None


def snooze_long(job):
    count(job)
    return Snooze(60)


@both
def test_a_snoozed_task_runs_again_and_uses_no_attempt(create, way):
    job = done(create({"task": snooze_twice, "retry": {"max_attempts": 1}}, nothing))
    assert (job.state, job.workspace) == ("COMPLETE", {"count": 3})
    assert runs(job, "outcome", "attempt") == [("snooze", 1), ("snooze", 1), ("done", 1), ("done", 1)]


@both
def test_a_snoozed_job_waits(create, way):
    job = done(create(snooze_long))
    assert (job.state, job.attempt, job.workspace) == ("READY", 0, {"count": 1})
    assert 50 < (job.run_after - timezone.now()).total_seconds() <= 60


def finish(job):
    job.workspace["at"] = "finish"
    return Finish({"answer": 42})


def finish_with_earlier_result(job):
    job.result = "earlier"
    return Finish()


@both
def test_finish_completes_the_job_now(create, way):
    job = done(create(finish, boom))
    assert (job.state, job.next_task, job.result) == ("COMPLETE", "", {"answer": 42})
    assert job.workspace == {"at": "finish"} and job.finished and CALLS == []
    assert done(create(finish_with_earlier_result, boom)).result == "earlier"


def go_to_nothing(job):
    return GoTo(path(nothing))


def go_back_once(job):
    count(job)
    return GoTo(path(go_back_once)) if job.workspace["count"] == 1 else None


def go_nowhere(job):
    job.workspace["at"] = "nowhere"
    return GoTo("tests.test_tasks.elsewhere")


@both
def test_go_to_moves_on_to_a_task_of_the_list(create, way):
    job = done(create(nothing, go_to_nothing, boom, nothing, count))
    assert (job.state, job.workspace, CALLS) == ("COMPLETE", {"count": 1}, ["nothing", "nothing"])
    assert runs(job, "position", "outcome") == [(0, "done"), (1, "goto"), (3, "done"), (4, "done")]


@both
def test_go_to_may_go_back(create, way):
    job = done(create(go_back_once, see))
    assert (job.state, job.workspace) == ("COMPLETE", {"count": 2})


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_go_to_a_task_that_is_not_in_the_list_fails_the_job_with_its_hook(create, way, atomic):
    job = done(create({"task": go_nowhere, "atomic": atomic}, nothing, failure_hook=note_failure))
    assert job.state == "FAILED" and CALLS[0][0] == "failed"
    assert "'tests.test_tasks.elsewhere'" in job.error and path(nothing) in job.error


def retry_in_a_minute(job):
    count(job)
    raise Retry(60)


def retry_now(job):
    CALLS.append(job.attempt)
    raise Retry(0, "the lock is taken")


@both
def test_retry_is_a_failed_attempt_with_a_delay_of_its_own(create, way):
    job = done(create({"task": retry_in_a_minute, "retry": {"max_attempts": 2, "delay_seconds": 1}}))
    assert (job.state, job.attempt, job.workspace) == ("READY", 1, {})
    assert 50 < (job.run_after - timezone.now()).total_seconds() <= 60
    assert runs(job, "outcome") == ["failed"]


@both
def test_retry_fails_the_job_when_no_attempts_are_left(create, way):
    job = done(create({"task": retry_now, "retry": {"max_attempts": 3}}))
    assert (job.state, CALLS) == ("FAILED", [1, 2, 3]) and "the lock is taken" in job.error
    CALLS.clear()
    assert (done(create(retry_now)).state, CALLS) == ("FAILED", [1])


def abort(job):
    CALLS.append("abort")
    raise Abort("no use")


@both
def test_abort_fails_the_job_whatever_attempts_are_left(create, way):
    job = done(create({"task": abort, "retry": {"max_attempts": 9}}, failure_hook=note_failure))
    assert job.state == "FAILED" and "no use" in job.error
    assert ["abort", ("failed", Abort, "no use")] == CALLS


DELAY = {}


def snooze_nonsense(job):
    return Snooze(DELAY["delay"])


def retry_nonsense(job):
    raise Retry(DELAY["delay"])


@both
@pytest.mark.parametrize("task", [snooze_nonsense, retry_nonsense])
@pytest.mark.parametrize("delay", ["soon", None, -1, float("nan"), float("inf"), True, 1e300])
def test_a_delay_that_is_no_time_fails_the_attempt(create, way, task, delay, monkeypatch):
    good = create(nothing, name="good")
    job = create(task)
    monkeypatch.setitem(DELAY, "delay", delay)
    assert done(job).state == "FAILED" and "a delay is a number of seconds" in job.error
    good.refresh_from_db()
    assert good.state == "COMPLETE"


@both
def test_a_delay_may_be_a_timedelta(create, way, monkeypatch):
    job = create(snooze_nonsense)
    monkeypatch.setitem(DELAY, "delay", datetime.timedelta(hours=1))
    job = done(job)
    assert job.state == "READY" and job.run_after - job.started > 3_599 * SECOND


async def note_first(job):
    CALLS.append("before")


async def note_last(job):
    CALLS.append("after")


async def note_asynchronously(job, error):
    CALLS.append(str(error))


def wrapped(job):
    """What a decorator that knows nothing of coroutines makes of an `async def` task."""
    return asynchronous_boom(job)


async def asynchronous_boom(job):
    raise ValueError("uh oh")


@both
def test_hooks_and_wrapped_tasks_may_be_async(create, way):
    hooks = {"pre_task_hook": note_first, "failure_hook": note_asynchronously, "post_task_hook": note_last}
    assert done(create(wrapped, **hooks)).state == "FAILED"
    assert CALLS == ["before", "uh oh", "after"]


@both
def test_an_async_creation_hook_is_refused_before_anything_is_written(create, way):
    with pytest.raises(DBQError, match="creation_hook"):
        create(nothing, creation_hook=note_first)
    assert not Job.objects.exists()


# Raising, and the retry policy.


@both
def test_a_task_that_raises_fails_the_job_and_the_error_is_kept(create, way):
    job = done(create(count, boom, nothing))
    assert (job.state, job.next_task, job.attempt) == ("FAILED", path(boom), 1)
    assert job.error == "ValueError: uh oh" and CALLS == ["boom"]
    [(_, _), (outcome, error)] = runs(job, "outcome", "error")
    assert outcome == "failed" and error.startswith("Traceback") and 'raise ValueError("uh oh")' in error


def fail_once(job):
    CALLS.append((path(fail_once), job.attempt))
    if job.attempt == 1:
        raise ValueError("the first time")


def fail_once_more(job):
    CALLS.append((path(fail_once_more), job.attempt))
    if job.attempt == 1:
        raise ValueError("the first time")


@both
def test_attempts_are_counted_for_each_task(create, way):
    job = done(create(fail_once, fail_once_more, retry={"max_attempts": 2, "delay_seconds": 0}))
    assert job.state == "COMPLETE" and job.error is None
    assert [attempt for _, attempt in CALLS] == [1, 2, 1, 2]
    assert runs(job, "outcome", "attempt") == [("failed", 1), ("done", 2), ("failed", 1), ("done", 2)]


@both
def test_a_task_has_its_own_policy_before_that_of_the_job(create, way):
    retry = {"max_attempts": 3, "delay_seconds": 0}
    job = done(create({"task": boom, "retry": {"max_attempts": 1}}, retry=retry))
    assert (job.state, CALLS) == ("FAILED", ["boom"])
    CALLS.clear()
    job = done(create(boom, retry=retry))
    assert (job.state, CALLS) == ("FAILED", ["boom"] * 3)


@pytest.mark.django_db
def test_the_delay_grows_up_to_its_limit(create):
    retry = {"max_attempts": 5, "delay_seconds": 2, "backoff": 3, "max_delay_seconds": 15, "jitter": False}
    waits = []
    with freezegun.freeze_time(NOW) as clock:
        job = create(boom, retry=retry)
        while done(job).state == "READY":
            waits.append((job.run_after - timezone.now()).total_seconds())
            clock.tick(waits[-1] - 0.1)
            assert run_jobs() == 0
            clock.tick(0.1)
    assert waits == [2, 6, 15, 15] and job.state == "FAILED"


@pytest.mark.django_db
def test_with_jitter_the_delay_is_anything_below(create):
    waits = set()
    with freezegun.freeze_time(NOW):
        for _ in range(20):
            job = done(create(boom, retry={"max_attempts": 2, "delay_seconds": 100}))
            waits.add((job.run_after - NOW).total_seconds())
    assert all(0 <= wait < 100 for wait in waits) and len(waits) > 10


class Special(LookupError):
    pass


def raise_special(job):
    CALLS.append("special")
    raise Special("special")


@both
@pytest.mark.parametrize(
    "rule, attempts",
    [
        ({"on": ["tests.test_tasks.Special"]}, 2),
        ({"on": ["LookupError"]}, 2),
        ({"on": ["ValueError", "OSError"]}, 1),
        ({"not_on": ["LookupError"]}, 1),
        ({"not_on": ["ValueError"]}, 2),
        ({"on": ["LookupError"], "not_on": ["tests.test_tasks.Special"]}, 1),
        ({"on": ["nowhere.Special"]}, 1),
        ({"not_on": ["tests.test_tasks.nothing"]}, 2),
    ],
)
def test_a_policy_may_name_exceptions(create, way, rule, attempts):
    good = create(nothing, name="good")
    job = done(create(raise_special, retry={"max_attempts": 2, "delay_seconds": 0, **rule}))
    assert job.state == "FAILED" and CALLS.count("special") == attempts
    good.refresh_from_db()
    assert good.state == "COMPLETE"


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raise_speechless(job):
    raise Speechless


def call_exit(job):
    sys.exit(3)


def raise_base(job):
    raise BaseException("the very base")


def raise_nul(job):
    raise ValueError("a\0b \ud800")


def raise_long(job):
    raise ValueError("x" * 1_000_000)


def raise_group(job):
    raise ExceptionGroup("many", [ValueError("one"), KeyError("two")])


@both
@pytest.mark.parametrize(
    "task, error",
    [
        (raise_speechless, "Speechless: <exception str() failed>"),
        (call_exit, "SystemExit: 3"),
        (raise_base, "BaseException: the very base"),
        (raise_nul, "ValueError: a?b ?"),
        (raise_long, "ValueError: xxx"),
        (raise_group, "many"),
    ],
)
@pytest.mark.parametrize("atomic", [False, True])
def test_whatever_a_task_raises_is_a_failed_attempt_and_the_next_job_runs(create, way, task, error, atomic):
    job = create({"task": task, "atomic": atomic}, failure_hook=nothing_on_failure)
    good = create(nothing, name="good")
    assert done(job).state == "FAILED" and error in job.error and len(job.error) <= 1_000
    good.refresh_from_db()
    assert good.state == "COMPLETE"


def nothing_on_failure(job, exception):
    pass


def take_too_long(job):
    wait_until(lambda: False)


async def take_too_long_in_async(job):
    import asyncio

    await asyncio.sleep(30)


@both
@pytest.mark.parametrize("task", [take_too_long, take_too_long_in_async])
def test_a_task_that_runs_out_of_time_fails(create, way, task):
    job = done(create({"task": task, "timeout_seconds": 0.05}, failure_hook=note_failure))
    assert job.state == "FAILED" and CALLS[0][1] is TaskTimeout
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


# Hooks.


def note_pre(job):
    CALLS.append("pre")
    job.workspace["pre"] = True


def note_task(job):
    CALLS.append("task")


def note_post(job):
    CALLS.append("post")
    job.workspace["post"] = True


def note_failure(job, exception):
    CALLS.append(("failed", type(exception), str(exception)))
    job.workspace["failure"] = str(exception)


HOOKS = {"pre_task_hook": note_pre, "post_task_hook": note_post, "failure_hook": note_failure}


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_hooks_run_around_each_task_and_their_changes_are_kept(create, way, atomic):
    job = done(create(note_task, note_task, atomic=atomic, **HOOKS))
    assert CALLS == ["pre", "task", "post"] * 2
    assert (job.state, job.workspace) == ("COMPLETE", {"pre": True, "post": True})


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_the_failure_hook_runs_before_the_post_task_hook(create, way, atomic):
    job = done(create(boom, nothing, atomic=atomic, **HOOKS))
    assert ["pre", "boom", ("failed", ValueError, "uh oh"), "post"] == CALLS
    assert job.state == "FAILED"
    kept = {"failure": "uh oh", "post": True}
    assert job.workspace == (kept if atomic else {"pre": True, **kept})


@both
def test_the_failure_hook_waits_for_the_last_attempt(create, way):
    create(boom, retry={"max_attempts": 2, "delay_seconds": 0}, **HOOKS)
    drain()
    assert ["pre", "boom", "post", "pre", "boom", ("failed", ValueError, "uh oh"), "post"] == CALLS


@both
def test_a_raising_pre_task_hook_fails_the_attempt_and_the_task_does_not_run(create, way):
    job = done(create(nothing, **{**HOOKS, "pre_task_hook": boom}))
    assert ["boom", ("failed", ValueError, "uh oh"), "post"] == CALLS and job.state == "FAILED"


def note_place(job, *args):
    CALLS.append((job.state, job.next_task.rpartition(".")[2]))


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_what_follows_a_task_sees_what_the_job_will_be_as_in_the_original(create, way, atomic):
    done(create(count, count, atomic=atomic, post_task_hook=note_place))
    assert CALLS == [("READY", "count"), ("COMPLETE", "")]
    CALLS.clear()
    retry = {"max_attempts": 2, "delay_seconds": 0}
    hooks = {"failure_hook": note_place, "post_task_hook": note_place}
    job = done(create(boom, retry=retry, atomic=atomic, **hooks))
    assert CALLS == ["boom", ("READY", "boom"), "boom", ("FAILED", "boom"), ("FAILED", "boom")]
    assert (job.state, job.next_task) == ("FAILED", path(boom))


def boom_on_failure(job, exception):
    CALLS.append("boom on failure")
    raise RuntimeError("the hook itself") from exception


def exit_on_failure(job, exception):
    sys.exit("the hook itself")


@both
@pytest.mark.parametrize("hook", [boom_on_failure, exit_on_failure, "nowhere.to_be_found"])
@pytest.mark.parametrize("atomic", [False, True])
def test_a_raising_failure_hook_changes_nothing_else(create, way, hook, atomic, caplog):
    job = create(boom, atomic=atomic, **{**HOOKS, "failure_hook": hook})
    good = create(nothing, name="good")
    with caplog.at_level(logging.ERROR, "django_dbq"):
        done(job)
    assert (job.state, job.error, CALLS[-2]) == ("FAILED", "ValueError: uh oh", "post")
    [error] = runs(job, "error")
    assert "ValueError: uh oh" in error and f"failure_hook {path(hook)} failed:" in error
    assert "Hook failed" in caplog.text
    good.refresh_from_db()
    assert good.state == "COMPLETE"


@both
@pytest.mark.parametrize("hook", [boom, call_exit, "nowhere.to_be_found"])
@pytest.mark.parametrize("atomic", [False, True])
def test_a_raising_post_task_hook_changes_nothing_else(create, way, hook, atomic, caplog):
    with caplog.at_level(logging.ERROR, "django_dbq"):
        job = done(create(count, count, atomic=atomic, post_task_hook=hook))
    assert (job.state, job.workspace, job.error) == ("COMPLETE", {"count": 2}, None)
    assert [f"post_task_hook {path(hook)} failed:" in error for error in runs(job, "error")] == [True, True]
    assert runs(job, "outcome") == ["done", "done"] and "Hook failed" in caplog.text


def break_a_rule(job, *args):
    """Write a row, then break a rule of the database, as a hook."""
    Row.objects.create(text="by the hook")
    Row.objects.create(pk=Row.objects.get(text="by the hook").pk, text="again")


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_a_database_error_in_a_hook_changes_nothing_else(create, way, atomic):
    job = done(create(write, atomic=atomic, post_task_hook=break_a_rule))
    assert (job.state, job.workspace) == ("COMPLETE", {"written": True})
    assert "written" in texts()
    job = done(create(boom, atomic=atomic, failure_hook=break_a_rule))
    assert (job.state, job.error) == ("FAILED", "ValueError: uh oh")


def spoil_in_hook(job, *args):
    job.workspace["bad"] = object()


@both
def test_a_hook_that_spoils_the_workspace_changes_nothing_else(create, way, caplog):
    with caplog.at_level(logging.ERROR, "django_dbq"):
        job = done(create(count, nothing, post_task_hook=spoil_in_hook))
    assert (job.state, job.workspace) == ("COMPLETE", {"count": 1})
    assert "['bad']" in caplog.text
    assert ["as a hook left it cannot be written" in error for error in runs(job, "error")] == [True, True]


@both
def test_the_failure_hooks_changes_are_kept_where_the_task_spoiled_the_workspace(create, way):
    job = done(create(count, spoil, workspace={"how": "object"}, failure_hook=note_failure))
    assert job.workspace["count"] == 1 and "['bad']" in job.workspace["failure"]


def rescued(job, lost_attempts):
    """Have a worker take back a job whose worker died, as so many others before; return it then."""
    held = {"state": "PROCESSING", "claimed_by": "dead", "lease_until": timezone.now() - 60 * SECOND}
    Job.objects.filter(pk=job.pk).update(claim=1, attempt=1, lost_attempts=lost_attempts, **held)
    work()
    job.refresh_from_db()
    return job


@by_a_worker
def test_a_job_whose_workers_died_too_often_is_failed_with_its_hook_by_the_worker_that_rescues(
    create, settings
):
    settings.DBQ = {"LOST_ATTEMPTS_MAX": 2}
    job = rescued(create(count, nothing, **HOOKS), lost_attempts=1)
    assert (job.state, job.lost_attempts) == ("FAILED", 2) and "WorkerLost" in job.error
    assert [CALLS[0][:2], CALLS[1]] == [("failed", WorkerLost), "post"] and "pre" not in CALLS
    assert job.workspace["failure"].startswith("2 attempts at tests.test_tasks.count were lost")
    assert runs(job, "outcome", "worker") == [("lost", "dead")]
    assert (job.claimed_by, job.lease_until) == (None, None)


@by_a_worker
def test_a_lost_worker_uses_no_attempt_of_the_policy(create):
    job = create({"task": fail_once, "retry": {"max_attempts": 2, "delay_seconds": 0}})
    held = {"state": "PROCESSING", "claimed_by": "dead", "lease_until": timezone.now() - 60 * SECOND}
    Job.objects.filter(pk=job.pk).update(claim=1, attempt=1, **held)
    work()
    job.refresh_from_db()
    assert job.state == "COMPLETE" and runs(job, "outcome") == ["lost", "done"]


# Transactions.


@both
def test_an_atomic_task_commits_its_writes_its_jobs_and_its_record_together(create, way):
    job = done(create(write, atomic=True))
    assert (job.state, job.workspace, job.result) == ("COMPLETE", {"written": True}, "written")
    assert texts() == ["written"]
    assert Job.objects.filter(name="good", state="COMPLETE").count() == 1


def look_from_outside(job):
    """Note what another connection sees of an atomic task's writes while it runs."""
    write(job)
    job.save()

    def look():
        seen = Job.objects.get(pk=job.pk)
        CALLS.append((texts(), Job.objects.filter(name="good").count(), seen.workspace))
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()


@by_a_worker
@pytest.mark.parametrize("atomic", [False, True])
def test_nobody_sees_half_of_an_atomic_task(create, atomic):
    job = done(create({"task": look_from_outside, "atomic": atomic}))
    assert job.state == "COMPLETE" and texts() == ["written"]
    assert CALLS[0] == (([], 0, {}) if atomic else (["written"], 1, {"written": True}))


@both
def test_a_failing_atomic_task_rolls_back_its_writes_its_jobs_and_its_workspace(create, way):
    job = done(create(count, {"task": write_and_boom, "atomic": True}))
    assert (job.state, job.workspace, job.result) == ("FAILED", {"count": 1}, None)
    assert texts() == [] and not Job.objects.filter(name="good").exists()
    assert runs(job, "outcome") == ["done", "failed"]


@both
def test_a_failing_plain_task_keeps_its_writes(create, way):
    job = done(create(write_and_boom))
    assert (job.state, job.workspace) == ("FAILED", {"written": True})
    assert texts() == ["written"] and Job.objects.filter(name="good", state="COMPLETE").exists()


def write_and_snooze(job):
    write(job)
    return Snooze(60)


def write_and_retry(job):
    write(job)
    raise Retry(60)


@both
def test_a_returned_directive_commits_and_a_raised_one_rolls_back(create, way):
    job = done(create({"task": write_and_snooze, "atomic": True}))
    assert (job.state, job.workspace, texts()) == ("READY", {"written": True}, ["written"])
    Row.objects.all().delete()
    job = done(create({"task": write_and_retry, "atomic": True, "retry": {"max_attempts": 2}}))
    assert (job.state, job.attempt, job.workspace, texts()) == ("READY", 1, {}, [])


@both
def test_atomic_may_be_the_rule_for_all_tasks_with_exceptions(create, settings, way):
    settings.DBQ = {"ATOMIC_TASKS": True}
    assert done(create(write_and_boom)).state == "FAILED" and texts() == []
    assert done(create({"task": write_and_boom, "atomic": False})).state == "FAILED" and texts() == [
        "written"
    ]
    Row.objects.all().delete()
    assert done(create(write_and_boom, atomic=False)).state == "FAILED" and texts() == ["written"]


def save_and_boom(job):
    job.workspace["saved"] = True
    job.save()
    raise ValueError("uh oh")


@both
def test_what_an_atomic_task_saved_is_rolled_back_with_it(create, way):
    assert done(create(save_and_boom, atomic=True)).workspace == {}
    assert done(create(save_and_boom)).workspace == {"saved": True}


def swallow_a_database_error(job):
    Row.objects.create(text="before")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")
    except DatabaseError:
        pass


@both
@pytest.mark.postgresql
def test_an_atomic_task_that_swallows_a_database_error_fails_rather_than_lose_its_writes(create, way):
    job = done(create(swallow_a_database_error, atomic=True, post_task_hook=note_post))
    assert (job.state, texts()) == ("FAILED", [])
    assert CALLS == ["post"]


def swallow_a_broken_rule(job):
    row = Row.objects.create(text="before")
    with contextlib.suppress(IntegrityError):
        Row.objects.create(pk=row.pk, text="again")


def swallow_a_broken_rule_in_a_block(job):
    row = Row.objects.create(text="before")
    with contextlib.suppress(IntegrityError), transaction.atomic():
        Row.objects.create(pk=row.pk, text="again")


@both
def test_an_atomic_task_that_breaks_its_transaction_fails(create, way):
    job = done(create(swallow_a_broken_rule, atomic=True, post_task_hook=note_post))
    assert (job.state, texts(), CALLS) == ("FAILED", [], ["post"])
    job = done(create(swallow_a_broken_rule_in_a_block, atomic=True))
    assert (job.state, texts()) == ("COMPLETE", ["before"])


def leave_a_block_open(job):
    transaction.atomic().__enter__()
    Row.objects.create(text="never committed")


def leave_autocommit_off(job):
    transaction.set_autocommit(False)
    Row.objects.create(text="never committed")


def begin_by_hand(job):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    Row.objects.create(text="never committed")


def leave_it_broken(job):
    begin_by_hand(job)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")
    except DatabaseError:
        pass


@by_a_worker
@pytest.mark.parametrize("task", [leave_a_block_open, leave_autocommit_off, begin_by_hand, leave_it_broken])
def test_a_transaction_left_open_fails_the_attempt_and_is_rolled_back(create, task):
    job = create(task)
    good = create(write, name="good_too")
    assert done(job).state == "FAILED" and "left a transaction open" in job.error
    good.refresh_from_db()
    assert good.state == "COMPLETE" and texts() == ["written"]


@by_a_worker
@pytest.mark.parametrize("task", [leave_a_block_open, leave_autocommit_off, begin_by_hand, leave_it_broken])
def test_a_transaction_left_open_is_seen_after_a_task_that_used_no_database(create, task):
    create(nothing, name="without")
    job = create(task)
    assert done(job).state == "FAILED" and "left a transaction open" in job.error


armed = []


def raise_on_connection(**given):
    if armed:
        armed.pop()
        raise ValueError("a receiver of the project")


def stall_on_connection(**given):
    if armed:
        armed.pop()
        time.sleep(1)


def look(job):
    armed.append(True)
    Row.objects.count()


def look_and_catch(job):
    with contextlib.suppress(ValueError):
        look(job)


def put_a_connection_aside(job):
    aside.append(connections["default"].copy())
    aside[0].connect()


def use_the_one_aside(job):
    connections["default"] = aside.pop()
    leave_a_block_open(job)


aside = []


def make_a_connection(job):
    made = connections["default"].copy()
    made.connect()
    made.close()
    forgotten.append(weakref.ref(made))


forgotten = []


@pytest.fixture
def lasting_connections():
    """Connections that outlive a task; whatever was done to this thread's, it gets its own back."""
    own = connections["default"]
    own.close()
    age, own.settings_dict["CONN_MAX_AGE"] = own.settings_dict["CONN_MAX_AGE"], None
    yield
    own.settings_dict["CONN_MAX_AGE"] = age
    for each in {own, connections["default"]}:
        each.in_atomic_block, each.atomic_blocks, each.closed_in_transaction = False, [], False
        each.close()
    connections["default"] = own


@by_a_worker
@pytest.mark.parametrize(
    ("opening", "receiver"),
    [(look, raise_on_connection), (look_and_catch, raise_on_connection), (look, stall_on_connection)],
)
def test_a_transaction_left_open_is_seen_where_the_opening_of_the_connection_was_not_told(
    create, opening, receiver, lasting_connections
):
    create(nothing, name="without")
    create(opening, name="opening", timeout_seconds=0.3)
    job, good = create(leave_a_block_open), create(write, name="good_too")
    told = list(connection_created.receivers)
    connection_created.receivers.clear()
    connection_created.connect(receiver)  # Before any other.
    connection_created.receivers.extend(told)
    connection_created.sender_receivers_cache.clear()
    connection.close()
    try:
        work("default")
    finally:
        connection_created.disconnect(receiver)
    job.refresh_from_db()
    good.refresh_from_db()
    assert job.state == "FAILED" and "left a transaction open" in job.error
    assert good.state == "COMPLETE" and texts() == ["written"]


@by_a_worker
def test_a_transaction_left_open_is_seen_on_a_connection_that_an_earlier_task_has_put_aside(
    create, lasting_connections
):
    create(nothing, name="without")
    create(put_a_connection_aside, name="aside")
    job = create(use_the_one_aside)
    connection.close()
    work("default")
    connections["default"].close()
    job.refresh_from_db()
    assert job.state == "FAILED" and "left a transaction open" in job.error


@by_a_worker
def test_a_connection_that_a_task_made_and_forgot_is_kept_by_nobody(create):
    for number in range(3):
        create(make_a_connection, name=f"makes {number}")
    work("default")
    gc.collect()
    assert [made() for made in forgotten] == [None, None, None]
    forgotten.clear()


@by_a_worker
def test_a_block_left_open_in_an_atomic_task_fails_the_attempt_and_is_rolled_back(create):
    job = create(leave_a_block_open, atomic=True)
    good = create(write, name="good_too")
    assert done(job).state == "FAILED" and "left a transaction open" in job.error
    good.refresh_from_db()
    assert good.state == "COMPLETE" and texts() == ["written"]


@pytest.mark.django_db
def test_a_block_left_open_is_undone_in_a_test_too(create):
    job = create(leave_a_block_open)
    good = create(write, name="good_too")
    depth = len(connection.atomic_blocks)
    assert done(job).state == "FAILED" and "left a transaction open" in job.error
    good.refresh_from_db()
    assert good.state == "COMPLETE" and "written" in texts()
    assert len(connection.atomic_blocks) == depth


@pytest.fixture
def leaky_receiver(request):
    """A receiver of the signal that leaves a block open, once."""
    leaks = iter([1])

    def leave_open(sender, **given):
        for _ in leaks:
            transaction.atomic().__enter__()
            Row.objects.create(text="of the receiver")

    request.param.connect(leave_open)
    yield
    request.param.disconnect(leave_open)


@both
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("leaky_receiver", [post_execute_in_worker, post_execute], indirect=True)
def test_a_block_that_a_receiver_leaves_open_harms_no_task(create, way, atomic, leaky_receiver):
    jobs = [create(write, name=name, atomic=atomic) for name in ("first", "second", "third")]
    drain()
    for job in jobs:
        job.refresh_from_db()
        assert job.state == "COMPLETE", job.error
    assert texts() == ["written"] * 3
    [said] = TaskRun.objects.exclude(error=None).values_list("error", flat=True)
    assert "signal post_execute" in said and "left a transaction open" in said


@by_a_worker
@pytest.mark.parametrize("leaky_receiver", [post_spawn], indirect=True)
def test_a_block_that_was_left_open_when_the_worker_began_harms_no_task(create, leaky_receiver, caplog):
    job = create(write)
    assert done(job).state == "COMPLETE" and texts() == ["written"]
    assert "a receiver of post_spawn left a transaction open on database 'default'" in caplog.text


def close_the_connection(job):
    Row.objects.create(text="before")
    connection.close()


def close_all_connections(job):
    Row.objects.create(text="before")
    connections.close_all()


def cut_the_connection(job):
    """As when the server goes away in the middle of a task."""
    Row.objects.create(text="before")
    connection.connection.close()


@by_a_worker
@pytest.mark.parametrize("task", [close_the_connection, close_all_connections, cut_the_connection])
@pytest.mark.parametrize("atomic", [False, True])
def test_a_task_that_closes_its_connection_harms_no_other(create, task, atomic):
    job = create(task, {"task": nothing, "atomic": False}, atomic=atomic)
    good = create(write, name="good_too")
    done(job)
    good.refresh_from_db()
    assert good.state == "COMPLETE"
    if atomic:
        assert job.state != "COMPLETE" and texts() == ["written"]
    else:
        assert job.state == "COMPLETE" and texts() == ["before", "written"]


def end_its_session(job):
    """As a server or a pooler does that allows no transaction to be idle for so long as its task took."""
    mine, other = connection.connection.info.backend_pid, connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10_000)", [mine])
    other.close()


@by_a_worker
@pytest.mark.postgresql
def test_an_atomic_task_whose_transaction_is_ended_each_time_before_its_commit_ends_failed(create):
    job = done(
        create({"task": write, "atomic": True}, post_task_hook=end_its_session, failure_hook=note_failure)
    )
    assert (job.state, job.lost_attempts, texts()) == ("FAILED", 3, [])
    assert job.workspace["failure"].startswith("3 attempts at tests.test_tasks.write were lost")
    assert runs(job, "outcome", "attempt") == [("cut_off", 1), ("cut_off", 2), ("cut_off", 3)]
    assert all("terminating connection" in error or "closed" in error for error in runs(job, "error"))


def end_its_first_session(job):
    if job.attempt == 1:
        end_its_session(job)


@by_a_worker
@pytest.mark.postgresql
def test_an_atomic_task_whose_transaction_was_ended_once_runs_again(create):
    job = done(create({"task": write, "atomic": True}, nothing, post_task_hook=end_its_first_session))
    assert (job.state, job.lost_attempts, texts()) == ("COMPLETE", 0, ["written"])
    assert runs(job, "outcome") == ["cut_off", "done", "done"]


def break_a_rule_uncaught(job):
    row = Row.objects.create(text="before")
    Row.objects.create(pk=row.pk, text="again")


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_a_database_error_fails_the_attempt_and_the_next_job_runs(create, way, atomic):
    job = create(break_a_rule_uncaught, atomic=atomic, failure_hook=note_failure)
    good = create(nothing, name="good")
    assert done(job).state == "FAILED" and "IntegrityError" in job.error
    assert job.workspace["failure"]
    good.refresh_from_db()
    assert good.state == "COMPLETE"


def lose_the_claim(job):
    write(job)

    def steal():
        Job.objects.filter(pk=job.pk).update(claim=job.claim + 1, claimed_by="another")
        connection.close()

    thread = threading.Thread(target=steal)
    thread.start()
    thread.join()


@by_a_worker
@pytest.mark.postgresql
def test_an_atomic_task_that_has_lost_its_claim_is_rolled_back_and_the_job_is_left_alone(create, caplog):
    with caplog.at_level(logging.WARNING, "django_dbq"):
        job = done(create({"task": lose_the_claim, "atomic": True}, nothing, **HOOKS))
    assert (job.state, job.claimed_by, job.workspace, job.result) == ("PROCESSING", "another", {}, None)
    assert texts() == [] and not Job.objects.filter(name="good").exists()
    assert runs(job, "outcome") == [] and "Lease lost" in caplog.text


# async def.


async def write_in_async(job):
    await Row.objects.acreate(text="async")
    job.workspace["written"] = True


async def write_and_boom_in_async(job):
    await write_in_async(job)
    raise ValueError("uh oh")


async def snooze_in_async(job):
    return Snooze(60)


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_async_tasks_run_and_use_the_database(create, way, atomic):
    job = done(create(write_in_async, count, atomic=atomic))
    assert (job.state, job.workspace, texts()) == ("COMPLETE", {"written": True, "count": 1}, ["async"])


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_an_async_task_that_raises_fails_and_rolls_back_where_it_is_atomic(create, way, atomic):
    job = done(create(write_and_boom_in_async, atomic=atomic))
    assert (job.state, job.error, texts()) == ("FAILED", "ValueError: uh oh", [] if atomic else ["async"])


@both
def test_an_async_task_may_return_a_directive(create, way):
    assert done(create(snooze_in_async)).state == "READY"


# Changing JOBS under live jobs.


@both
def test_a_job_goes_on_with_the_list_it_was_created_with(create, settings, way):
    job = create(count, nothing, count)
    settings.JOBS = {"job": [path(see)], "other": [path(count), path(nothing)]}
    assert done(job).state == "COMPLETE" and job.workspace == {"count": 2} and CALLS == ["nothing"]


@both
def test_a_job_whose_task_has_gone_is_parked_and_goes_on_when_it_is_back(create, settings, way):
    job = create(count, nothing)
    good = create(nothing, name="good")
    before, settings.JOBS = settings.JOBS, {"job": [path(see)], "good": [path(nothing)]}
    done(job)
    assert (job.state, job.attempt, job.next_task) == (
        "NEW",
        0,
        path(count),
    ) and job.run_after > timezone.now()
    assert path(count) in job.error and "'job'" in job.error
    assert runs(job, "outcome") == []
    good.refresh_from_db()
    assert good.state == "COMPLETE"
    settings.JOBS = before
    Job.objects.filter(pk=job.pk).update(run_after=timezone.now() - SECOND)
    assert done(job).state == "COMPLETE" and job.error is None


@both
def test_a_job_half_way_is_parked_where_it_stands(create, settings, way):
    job = create(count, snooze_twice, nothing)
    settings.JOBS = {"job": [path(count)]}
    done(job)
    assert (job.state, job.position, job.next_task, job.workspace) == (
        "READY",
        1,
        path(snooze_twice),
        {"count": 1},
    )


@both
def test_a_job_of_an_unknown_name_is_parked(create, settings, way, caplog):
    job = create(count)
    good = create(nothing, name="good")
    settings.JOBS = {"jobs": [path(count)], "good": [path(nothing)]}
    with caplog.at_level(logging.WARNING, "django_dbq"):
        done(job)
    assert (job.state, job.attempt, job.finished) == ("NEW", 0, None) and job.run_after > timezone.now()
    assert "JOBS has no job named 'job'. Did you mean 'jobs'?" in job.error
    good.refresh_from_db()
    assert good.state == "COMPLETE"


@both
@pytest.mark.parametrize(
    "task, error",
    [
        ("tests.test_tasks.not_there", 'does not define a "not_there" attribute'),
        ("tests.no_such_module.task", "No module named 'tests.no_such_module'"),
        ("tests.test_tasks.NOW", "is not callable"),
    ],
)
def test_a_task_that_does_not_import_is_parked_and_others_go_on(create, settings, way, task, error):
    settings.DBQ = {"PARK_SECONDS": 1000}
    job = create(count, task)
    good = create(nothing, name="good")
    done(job)
    assert (job.state, job.attempt, job.next_task, job.workspace) == ("READY", 0, task, {"count": 1})
    assert repr(task) in job.error and error in job.error
    assert 900 < (job.run_after - timezone.now()).total_seconds() <= 1000
    good.refresh_from_db()
    assert good.state == "COMPLETE"


@by_a_worker
def test_a_task_that_imports_no_more_is_parked(create, monkeypatch):
    """Its module finds it anew each time, as one that imports lazily does."""
    found = [nothing]
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = lambda name: found[0] if found else importlib.import_module("tests.no_such_module")
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    first, second = create("lazy.task"), create("lazy.task")
    assert done(first).state == "COMPLETE"
    found.clear()
    third = create("lazy.task")
    assert done(third).state == "NEW" and "No module named 'tests.no_such_module'" in third.error
    second.refresh_from_db()
    assert second.state == "COMPLETE"


@both
def test_the_options_of_a_live_jobs_tasks_are_those_of_today(create, way):
    job = create(boom)
    create(count, {"task": boom, "retry": {"max_attempts": 2, "delay_seconds": 0}})
    done(job)
    assert runs(job, "attempt") == [1, 2]


# What may run.


@both
@pytest.mark.parametrize("plan", [None, ["this.s"], ["tests.test_tasks.count", "this.s"]])
def test_a_path_of_the_row_that_stands_not_in_jobs_is_never_imported(create, way, plan):
    assert "this" not in sys.modules
    job = create(count)
    Job.objects.filter(pk=job.pk).update(next_task="this.s", plan=plan)
    done(job)
    assert "this" not in sys.modules
    assert (job.state, job.attempt) == ("NEW", 0)
    assert "'this.s'" in job.error and "stands in no entry of JOBS" in job.error


@both
def test_a_parked_job_goes_on_at_another_task_of_its_plan_as_its_error_says(create, way):
    job = create(count, count)
    Job.objects.filter(pk=job.pk).update(next_task="this.s", plan=["this.s", path(count)])
    done(job)
    assert job.state == "NEW" and job.run_after is not None
    assert 'job.next_task = "…"; job.run_after = None; job.save()' in job.error
    job.next_task, job.run_after = path(count), None
    job.save()
    done(job)
    assert (job.state, job.workspace, job.error) == ("COMPLETE", {"count": 1}, None)


@both
def test_a_path_of_the_plan_that_stands_not_in_jobs_is_not_reached(create, way):
    job = create(count)
    Job.objects.filter(pk=job.pk).update(plan=[path(count), "this.s"])
    done(job)
    assert (job.state, job.workspace, job.next_task) == ("READY", {"count": 1}, "this.s")
    assert "this" not in sys.modules


# Rows of the original package.


@both
@pytest.mark.parametrize(
    "state, next_task, ran", [("NEW", count, 3), ("READY", nothing, 2), ("READY", see, 1)]
)
def test_a_job_of_the_original_goes_on_at_its_next_task(create, way, state, next_task, ran):
    job = create(count, nothing, see)
    Job.objects.filter(pk=job.pk).update(plan=None, position=0, state=state, next_task=path(next_task))
    done(job)
    assert job.state == "COMPLETE" and job.workspace == ({"count": 1} if next_task is count else {})
    assert runs(job, "position") == list(range(3 - ran, 3))


@both
def test_a_job_that_a_worker_of_the_original_took_further_goes_on_where_that_left_it(create, way):
    job = create(boom, boom, count)
    Job.objects.filter(pk=job.pk).update(state="READY", next_task=path(count))
    assert done(job).state == "COMPLETE" and job.workspace == {"count": 1}


@both
def test_a_job_of_the_original_without_a_workspace_has_an_empty_one(create, way):
    job = create(count)
    Job.objects.filter(pk=job.pk).update(workspace=None, plan=None)
    assert done(job).workspace == {"count": 1}


@both
def test_a_job_that_a_worker_of_the_original_holds_is_left_alone(create, way):
    held = create(count)
    Job.objects.filter(pk=held.pk).update(state="PROCESSING")
    stopping = create(count)
    Job.objects.filter(pk=stopping.pk).update(state="STOPPING")
    assert (done(held).state, done(stopping).state) == ("PROCESSING", "STOPPING")


# What a task is not meant to do.


def delete_itself(job, *args):
    job.delete()


@both
@pytest.mark.parametrize("way_of", ["task", "hook"])
def test_a_job_that_deletes_itself_is_gone_and_its_worker_goes_on(create, way, way_of):
    job = create(delete_itself) if way_of == "task" else create(boom, failure_hook=delete_itself)
    good = create(nothing, name="good")
    drain()
    assert not Job.objects.filter(pk=job.pk).exists()
    good.refresh_from_db()
    assert good.state == "COMPLETE"


@both
def test_an_atomic_task_that_deletes_its_job_is_undone_and_says_why(create, way):
    job = done(create(delete_itself, atomic=True))
    assert (job.state, job.lost_attempts) == ("FAILED", 0)
    assert f"job {job.pk} was deleted while its task ran, which was rolled back" in job.error


def yields(job):
    CALLS.append("begun")
    yield job


async def yields_later(job):
    yield job


def forgets_to_call(job):
    return Snooze


@both
@pytest.mark.parametrize(
    "task, why",
    [
        (yields, "yields is a generator: nothing of it has run"),
        (yields_later, "yields_later is a generator"),
        (forgets_to_call, "return Snooze(…), not Snooze"),
    ],
)
def test_a_task_that_cannot_mean_what_it_says_fails(create, way, task, why):
    job = done(create(task))
    assert job.state == "FAILED" and why in job.error and CALLS == []


@both
@pytest.mark.parametrize("workspace, kind", [(["x"], "list"), ("x", "str"), (5, "int")])
def test_a_workspace_that_is_no_object_fails_the_job_before_its_task_runs(create, way, workspace, kind):
    job = create(note_task)
    Job.objects.filter(pk=job.pk).update(workspace=workspace)  # As the original package let one be created.
    job = done(job)
    assert job.state == "FAILED" and f"its workspace is a {kind}, no JSON object" in job.error
    assert CALLS == [] and job.workspace == workspace


@both
def test_a_row_without_a_next_task_begins_at_the_first(create, way):
    job = create(count, nothing)
    # As bulk_create of the original package has left it.
    Job.objects.filter(pk=job.pk).update(next_task="", plan=None)
    assert done(job).workspace == {"count": 1} and job.state == "COMPLETE"


def leave_a_result_and_fail(job):
    CALLS.append(job.result)
    job.result = "of a failure"
    if len(CALLS) == 1:
        raise ValueError("not yet")
    job.result = ("a", "tuple")


def note_result(job):
    CALLS.append(job.result)


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_a_result_is_what_is_recorded_of_it(create, way, atomic):
    retry = {"max_attempts": 2, "delay_seconds": 0}
    job = done(create({"task": leave_a_result_and_fail, "retry": retry}, note_result, atomic=atomic))
    assert CALLS == [None, None, ["a", "tuple"]]
    assert job.result == ["a", "tuple"]


def wait_for_the_urgent_one(job):
    CALLS.append("looked")
    if len(CALLS) == 200:  # By now its worker knows it to be quick.
        Job.objects.create(name="urgent", priority=100, workspace={"until": time.time() + 30})
    if len(CALLS) > 200 and time.time() > Job.objects.get(name="urgent").workspace["until"]:
        raise TimeoutError("nothing urgent has run")
    return Finish() if "urgent" in CALLS else Snooze(0)


def be_urgent(job):
    CALLS.append("urgent")


@by_a_worker
def test_a_job_that_goes_on_for_ever_gives_way_to_what_is_more_urgent(create):
    create(be_urgent, name="urgent").delete()
    assert done(create(wait_for_the_urgent_one)).state == "COMPLETE"


def leave_something_slow(job):
    transaction.on_commit(lambda: time.sleep(2.2))


@by_a_worker
def test_what_an_atomic_task_leaves_to_be_called_may_take_longer_than_a_lease(create, settings):
    settings.DBQ = {"LEASE_SECONDS": 1}
    job = done(create(leave_something_slow, count_rows, atomic=True))
    assert (job.state, runs(job, "outcome")) == ("COMPLETE", ["done", "done"])


def count_rows(job):
    Row.objects.count()


def save_in_a_long_transaction(job):
    with transaction.atomic():
        job.workspace["saved"] = True
        job.save()
        time.sleep(2.2)
    wait_until(
        lambda: job.trusted_until > time.monotonic() and not job.should_stop(), "its lease to be renewed"
    )
    time.sleep(0.5)


@by_a_worker
def test_a_job_that_its_own_task_locks_for_longer_than_a_lease_is_not_taken_from_it(create, settings):
    settings.DBQ = {"LEASE_SECONDS": 1, "POLL_INTERVAL_SECONDS": 0.05}
    job = done(create(save_in_a_long_transaction))
    assert (job.state, runs(job, "outcome")) == ("COMPLETE", ["done"])


# What would end one worker after the other.


def leave_what_has_no_text(job):
    job.workspace["url"] = reverse_lazy("no-such-view")


def finish_with_what_has_no_text(job):
    return Finish(reverse_lazy("no-such-view"))


@both
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("task", [leave_what_has_no_text, finish_with_what_has_no_text])
def test_a_value_whose_text_raises_anything_at_all_fails_its_job_and_no_other(create, way, task, atomic):
    job, good = create(task, atomic=atomic, failure_hook=note_failure), create(nothing, name="good")
    job = done(job)
    assert job.state == "FAILED" and "WorkspaceError" in job.error and "no-such-view" in job.error
    good.refresh_from_db()
    assert good.state == "COMPLETE"


def begin_anew(job, error):
    job.workspace = {"anew": True}


@both
def test_a_failure_hook_may_replace_a_workspace_that_is_no_object(create, way):
    job = create(note_task, failure_hook=begin_anew)
    Job.objects.filter(pk=job.pk).update(workspace=5)
    job = done(job)
    assert (job.state, job.workspace) == ("FAILED", {"anew": True})


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_an_error_that_no_check_has_foreseen_fails_its_job_and_no_other(create, way, atomic, monkeypatch):
    settle = Executor._settle

    def broken(self, job, *args):
        if job.name == "job":
            raise ZeroDivisionError("a fault of the executor's own")
        return settle(self, job, *args)

    monkeypatch.setattr(Executor, "_settle", broken)
    job, good = create(write, atomic=atomic), create(nothing, name="good_too")
    job = done(job)
    assert job.state == "FAILED" and "a fault of the executor's own" in job.error
    good.refresh_from_db()
    assert good.state == "COMPLETE"


@by_a_worker
def test_hooks_that_have_cost_as_many_workers_as_the_task_are_called_no_more(create, settings):
    settings.DBQ = {"LOST_ATTEMPTS_MAX": 2}
    job = rescued(create(count, nothing, **HOOKS), lost_attempts=3)
    assert (job.state, job.lost_attempts, CALLS) == ("FAILED", 4, [])
    assert "nor are its hooks called any more" in job.error


# Saving in a block.


def save_in_a_block_that_is_undone(job):
    job.workspace["count"] = 1
    with contextlib.suppress(ValueError), transaction.atomic():
        job.save()
        raise ValueError


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_what_a_task_saved_in_a_block_that_was_undone_is_recorded_all_the_same(create, way, atomic):
    job = done(create(save_in_a_block_that_is_undone, note_the_count, atomic=atomic))
    assert (job.workspace, CALLS) == ({"count": 1}, [1])


def save_in_a_block_and_take_it_back(job):
    job.workspace["count"] = 1
    with transaction.atomic():
        job.save()
    del job.workspace["count"]


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_what_a_task_saved_and_took_back_is_gone(create, way, atomic):
    job = done(create(save_in_a_block_and_take_it_back, note_the_count, atomic=atomic))
    assert (job.workspace, CALLS) == ({}, [None])


def save_in_a_block_and_fail_once(job):
    CALLS.append(job.workspace.get("count"))
    if len(CALLS) == 1:
        job.workspace["count"] = 1
        with transaction.atomic():
            job.save()
        raise ValueError("not yet")


@both
@pytest.mark.parametrize("atomic", [False, True])
def test_the_next_attempt_sees_what_a_block_saved_unless_it_was_rolled_back_with_the_task(
    create, way, atomic
):
    retry = {"max_attempts": 2, "delay_seconds": 0}
    done(create({"task": save_in_a_block_and_fail_once, "retry": retry}, atomic=atomic))
    assert [None, None if atomic else 1] == CALLS


def note_the_count(job):
    CALLS.append(job.workspace.get("count"))


# Transactions that do not begin, and those that others interfere with.


def be_refused_next(job):
    """Have the next connection of this thread be refused, as while the server starts up."""
    connection.close()
    connect = connection.connect

    def refuse():
        connection.connect = connect
        raise OperationalError("the database system is starting up")

    connection.connect = refuse


@by_a_worker
def test_an_atomic_task_that_could_not_begin_has_used_no_attempt(create):
    job = done(create(be_refused_next, {"task": write, "atomic": True}))
    assert (job.state, texts()) == ("COMPLETE", ["written"])
    assert runs(job, "outcome", "attempt") == [("done", 1), ("done", 1)]


def outlast_a_renewal_of_leases(job):
    Row.objects.create(text="written")
    other = connection.copy()

    def reported():
        with other.cursor() as cursor:
            cursor.execute("SELECT max(seen) FROM django_dbq_workerprocess")
            return cursor.fetchone()[0]

    for _ in range(2):  # Before the second one leases are renewed once more.
        before = reported()
        wait_until(lambda before=before: reported() != before, "the worker to report")
    other.close()


@by_a_worker
@pytest.mark.postgresql
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_at_a_strict_level_an_atomic_task_may_outlast_a_renewal_of_its_lease(create, settings, level):
    settings.DBQ = {"LEASE_SECONDS": 2, "POLL_INTERVAL_SECONDS": 0.05}
    altered = f"ALTER DATABASE {connection.ops.quote_name(connection.settings_dict['NAME'])}"
    with connection.cursor() as cursor:
        cursor.execute(f"{altered} SET default_transaction_isolation = '{level}'")
    connection.close()
    try:
        job = done(create({"task": outlast_a_renewal_of_leases, "atomic": True}))
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"{altered} RESET default_transaction_isolation")
        connection.close()
    assert (job.state, texts(), runs(job, "outcome")) == ("COMPLETE", ["written"], ["done"])
