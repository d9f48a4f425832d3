"""async_task: options, arguments, results, hooks; fetch and result."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_dbq import CallError, DBQError, Job, SettingsError
from django_dbq.compat.django_q import (
    AsyncTask,
    Task,
    async_task,
    delete_cached,
    fetch,
    queue_size,
    result,
)
from django_dbq.testing import run_jobs
from tests.django_q import functions
from tests.django_q.functions import HERE
from tests.models import Row

pytestmark = pytest.mark.django_db


def ran(func, *args, **kwargs):
    """Run a task; return it as it ended."""
    task_id = async_task(func, *args, **kwargs)
    run_jobs()
    return fetch(task_id)


def test_a_task_is_called_with_its_arguments_and_leaves_its_result():
    task_id = async_task("math.copysign", 2, -2)
    assert (fetch(task_id), result(task_id), queue_size()) == (None, None, 1)
    run_jobs()
    assert (result(task_id), queue_size()) == (-2, 0)
    task = fetch(task_id)
    assert isinstance(task, Task) and str(task) == task.name == task.id == task_id
    assert (task.func, task.args, task.kwargs) == ("math.copysign", (2, -2), {})
    assert (task.success, task.hook, task.group, task.cluster) == (True, None, None, "default")
    assert (task.attempt_count, task.time_taken() >= 0) == (1, True)


def test_a_function_may_be_given_itself():
    assert ran(math.copysign, 2, -2).result == -2


def test_the_id_is_32_digits_and_found_in_any_spelling():
    task_id = async_task(math.floor, 1.5)
    assert len(task_id) == 32
    run_jobs()
    assert [result(spelled) for spelled in (task_id, uuid.UUID(task_id), str(uuid.UUID(task_id)))] == [1] * 3


def test_a_task_is_found_by_its_name_the_newest_first():
    for number in (1, 2):
        async_task(functions.add, number, task_name="sum")
        run_jobs()
    assert (fetch("sum").name, result("sum")) == ("sum", 2)
    assert result("another") is None


def test_arguments_and_results_come_back_as_what_they_were():
    given = (
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
        (1, [2]),
    )
    task = ran(functions.echo, *given, when=datetime.date(2026, 1, 2))
    assert (task.args, task.kwargs) == (given, {"when": datetime.date(2026, 1, 2)})
    assert task.result == (given, {"when": datetime.date(2026, 1, 2)})
    assert ran(functions.typed).result == functions.typed()


def test_the_row_holds_the_result_as_json():
    task = ran(functions.typed)
    (value,) = Job.objects.filter(pk=task.id).values_list("result", flat=True)
    assert value["$"][1][:2] == [{"$": ["date", "2026-01-02"]}, {"$": ["decimal", "1.10"]}]


def test_a_result_that_is_not_json_fails_the_attempt_with_the_reason():
    task = ran(functions.unkeepable)
    assert not task.success
    assert "WorkspaceError: result is a builtins.set ({1, 2}), which JSON does not hold" in task.result


@pytest.mark.parametrize(
    "args, kwargs, message",
    [
        (({1},), {}, "args[0] is a builtins.set"),
        ((), {"x": [b"y"]}, "kwargs['x'][0] is a builtins.bytes"),
        ((Row(text="x"),), {}, "args[0] is a tests.models.Row (<Row: x>), which is a row: pass its key"),
    ],
)
def test_what_pickle_allowed_and_json_does_not_is_refused_by_name_before_anything_is_written(
    args, kwargs, message
):
    with CaptureQueriesContext(connection) as queries, pytest.raises(CallError) as refused:
        async_task(functions.echo, *args, **kwargs)
    assert message in str(refused.value) and not queries.captured_queries


def test_a_failure_is_final_and_its_result_is_the_error():
    task = ran(functions.fail)
    assert (task.success, task.attempt_count) == (False, 1)
    assert "Traceback" in task.result and "ValueError: uh oh" in task.result
    assert result(task.id) == task.result
    assert Job.objects.get(pk=task.id).state == "FAILED"


# Options.


def test_options_are_not_given_to_the_function():
    options = {"group": "g", "timeout": 5, "save": True, "cached": 60, "broker": object(), "task_name": "n"}
    task = ran(functions.echo, 1, **options, ack_failure=True, sync=False, cluster="other", x=2)
    assert task.result == ((1,), {"x": 2})
    assert (task.name, task.group, task.cluster) == ("n", "g", "other")


def test_q_options_leave_the_names_of_options_to_the_function():
    opts = {"group": "math", "timeout": 30, "task_name": "n"}
    task = ran(functions.echo, group="its own", timeout="too", q_options=opts)
    assert task.result == ((), {"group": "its own", "timeout": "too"})
    assert (task.group, task.name) == ("math", "n")
    assert opts == {"group": "math", "timeout": 30, "task_name": "n"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"q_options": {"grup": 1}}, "q_options has no option 'grup'. Did you mean 'group'?"),
        ({"q_options": 5}, "q_options must be a dictionary, not int (5)"),
        ({"group": 5.5}, "group must be text of at most 255 characters, not 5.5"),
        ({"group": True}, "group must be text of at most 255 characters, not True"),
        ({"task_name": "n" * 256}, "task_name must be text of at most 255 characters"),
        ({"timeout": "soon"}, "timeout: must be a number, not 'soon'"),
        ({"cluster": "x" * 200}, "cluster: is 200 characters long; at most 100"),
        ({"cluster": "c" * 101}, "is 101 characters long; at most 100"),
        ({"hook": "tests.there_is_none"}, "does not import"),
        ({"hook": lambda task: None}, "is a lambda"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options, message):
    with pytest.raises(CallError) as refused:
        async_task(functions.echo, **options)
    assert message in str(refused.value)
    assert not Job.objects.exists()


def limits(task_id):
    import json

    return json.loads(Job.objects.get(pk=task_id).call)["options"]


def test_the_time_limit_is_the_clusters_unless_the_call_has_its_own(settings):
    assert "timeout_seconds" not in limits(async_task(functions.echo))
    settings.Q_CLUSTER = {"timeout": 60}
    assert limits(async_task(functions.echo))["timeout_seconds"] == 60
    assert limits(async_task(functions.echo, timeout=5))["timeout_seconds"] == 5
    assert "timeout_seconds" not in limits(async_task(functions.echo, timeout=-1))


@pytest.mark.parametrize(
    "cluster, options, attempts",
    [
        ({}, {}, 1),
        ({"max_attempts": 3}, {}, 3),
        ({"max_attempts": 0}, {}, None),
        ({"max_attempts": 3, "ack_failures": True}, {}, 1),
        ({"max_attempts": 3, "ack_failures": True}, {"ack_failure": False}, 3),
        ({"max_attempts": 3}, {"ack_failure": True}, 1),
        ({"ack_failures": False}, {}, 1),
    ],
)
def test_a_failed_task_is_tried_again_only_where_max_attempts_says_so(settings, cluster, options, attempts):
    settings.Q_CLUSTER = cluster
    assert limits(async_task(functions.fail, **options))["retry"] == {"max_attempts": attempts}


def test_a_task_that_is_tried_again_tells_its_hook_once_it_has_ended(settings, ended):
    settings.Q_CLUSTER = {"max_attempts": 2}
    task_id = async_task(functions.fail_once, hook=functions.note)
    run_jobs()
    assert fetch(task_id) is None and not ended
    Job.objects.update(run_after=None, staged=True)
    run_jobs()
    assert [(task.success, task.result, task.attempt_count) for task in ended] == [(True, "at last", 2)]


def test_the_queue_is_that_of_the_cluster(settings):
    settings.Q_CLUSTER = {"name": "mine"}
    assert Job.objects.get(pk=async_task(functions.echo)).queue_name == "mine"
    assert Job.objects.get(pk=async_task(functions.echo, cluster="other")).queue_name == "other"


def test_a_setting_that_cannot_be_used_is_told(settings):
    settings.Q_CLUSTER = {"timeout": "soon"}
    with pytest.raises(SettingsError, match="timeout"):
        async_task(functions.echo)


def test_a_task_is_not_atomic_unless_all_tasks_are(settings):
    assert limits(async_task(functions.write, "x"))["atomic"] is False
    settings.DBQ = {"ATOMIC_TASKS": True}
    assert limits(async_task(functions.write, "x"))["atomic"] is True


def test_a_success_that_is_not_to_be_saved_leaves_no_row(settings):
    assert ran(functions.write, "x", save=False) is None
    assert (Row.objects.count(), Job.objects.count()) == (1, 0)
    assert not ran(functions.fail, save=False).success
    settings.Q_CLUSTER = {"save_limit": -1}
    assert ran(functions.write, "x") is None
    assert ran(functions.write, "x", save=True).success


def test_there_is_no_cache_to_delete_from():
    assert delete_cached(async_task(functions.echo)) is False


# Hooks.


@pytest.mark.parametrize("hook", [functions.note, f"{HERE}.note"])
def test_a_hook_is_given_the_task_that_has_ended(ended, hook):
    task_id = async_task(functions.add, 1, 2, hook=hook, group="g", task_name="n")
    run_jobs()
    (task,) = ended
    assert (task.id, task.name, task.func, task.args, task.kwargs) == (
        task_id,
        "n",
        f"{HERE}.add",
        (1, 2),
        {},
    )
    assert (task.result, task.success, task.attempt_count, task.group) == (3, True, 1, "g")
    assert task.hook == f"{HERE}.note"
    assert task.started <= task.stopped and task.time_taken() >= 0
    with pytest.raises(AttributeError):
        task.result = 5


def test_a_hook_is_given_a_failure_with_its_error(ended):
    ran(functions.fail, hook=functions.note)
    (task,) = ended
    assert not task.success and "Traceback" in task.result and "ValueError: uh oh" in task.result


def test_a_hook_that_raises_is_recorded_on_the_attempt_and_changes_nothing_else(caplog):
    task = ran(functions.add, 1, hook=functions.broken_hook)
    assert (task.success, task.result) == (True, 1)
    error = Job.objects.get(pk=task.id).runs.get().error
    assert f"hook {HERE}.broken_hook failed" in error and "the hook is broken" in error
    assert "Hook failed" in caplog.text


def test_a_hook_in_a_row_that_was_changed_is_not_called(ended):
    task_id = async_task(functions.add, 1, hook=functions.broken_hook)
    job = Job.objects.get(pk=task_id)
    Job.objects.filter(pk=task_id).update(call=job.call.replace("broken_hook", "note"))
    run_jobs()
    assert "BadSignature" in fetch(task_id).result and not ended


def test_a_hook_counts_its_own_task_in_its_group(ended):
    async_task(functions.add, 1, group="g")
    async_task(functions.fail, group="g")
    async_task(functions.add, 2, group="g", hook=functions.note_group)
    run_jobs()
    assert ended == [(3, 1, [1, 2])]


# At once.


def test_a_synchronous_task_has_run_when_its_id_is_returned(ended):
    task_id = async_task(functions.add, 1, 2, sync=True, hook=functions.note)
    assert result(task_id) == 3 and len(ended) == 1


def test_a_synchronous_failure_is_recorded_and_raised():
    with pytest.raises(ValueError, match="uh oh"):
        async_task(functions.fail, sync=True)
    assert Job.objects.get().state == "FAILED"


def test_the_setting_makes_all_tasks_synchronous(settings):
    settings.Q_CLUSTER = {"sync": True, "max_attempts": 5}
    assert result(async_task(functions.add, 1)) == 1
    with pytest.raises(ValueError, match="uh oh"):
        async_task(functions.fail)
    assert Job.objects.filter(state="FAILED").count() == 1
    assert result(async_task(functions.add, 1, sync=False)) is None


@pytest.mark.django_db(transaction=True)
def test_a_synchronous_task_is_part_of_the_callers_transaction():
    with pytest.raises(LookupError), transaction.atomic():
        assert result(async_task(functions.write, "x", sync=True)) == "x"
        raise LookupError
    assert not Row.objects.exists() and not Job.objects.exists()


# Waiting.


@pytest.mark.django_db(transaction=True)
def test_a_wait_ends_without_a_result_after_its_time():
    task_id = async_task(functions.add, 1)
    assert result(task_id, wait=30) is None and fetch(task_id, 30) is None
    assert not Job.objects.get(pk=task_id).wait(timeout=0.03)


def test_a_wait_within_a_transaction_is_refused_unless_the_task_has_ended():
    task_id = async_task(functions.add, 1)
    with pytest.raises(DBQError, match="waiting for a job within an atomic block"):
        result(task_id, wait=30)
    with pytest.raises(DBQError, match="waiting for a job within an atomic block"):
        Job.objects.get(pk=task_id).wait()
    run_jobs()
    job = Job.objects.get(pk=task_id)
    assert result(task_id, wait=-1) == 1 and job.wait() and job.result == 1


def test_a_cancelled_task_is_not_waited_for():
    task_id = async_task(functions.add, 1)
    Job.objects.get().cancel()
    assert fetch(task_id, wait=-1) is None  # In a transaction, in which it would refuse to wait.


def test_a_result_of_none_is_a_result():
    task_id = async_task(functions.note, 1)
    run_jobs()
    assert result(task_id, wait=-1) is None


# AsyncTask.


def test_an_async_task_holds_everything_in_one_object():
    task = AsyncTask("math.floor", 1.5, group="math")
    assert (task.group, task.hook, task.result()) == ("math", None, None)
    task.cached = True
    task.run()
    run_jobs()
    assert (task.result(), task.fetch().group, task.result_group()) == (1, "math", [1])
    task.args = (2.5,)
    task.save = True
    assert task.result() is None
    task.run()
    run_jobs()
    assert (task.result(), task.result_group(), len(task.fetch_group())) == (2, [1, 2], 2)


def test_an_async_task_without_q_options_has_none():
    task = AsyncTask(functions.add, 1, q_options=None)
    assert task.group is None
    task.group = "g"
    task.run()
    run_jobs()
    assert task.result_group() == [1]


def test_an_async_task_sets_its_options_where_they_are():
    task = AsyncTask(functions.echo, q_options={"group": "a"})
    task.group = "b"
    task.run()
    run_jobs()
    assert (task.group, task.fetch().group, task.result()) == ("b", "b", ((), {}))
