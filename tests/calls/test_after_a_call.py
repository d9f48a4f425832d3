"""What follows a call: its hook, and whether its row is kept."""

from __future__ import annotations

import pytest

from django_dbq import CallError, Job, TaskRun, schedule
from django_dbq.store import get_store
from django_dbq.worker.executor import Executor
from tests.calls import functions
from tests.calls.conftest import BOTH
from tests.calls.functions import HERE
from tests.models import Row

both = pytest.mark.parametrize("way", BOTH)
HOOK = "tests.calls.test_after_a_call.note"
ENDED = []


@pytest.fixture(autouse=True)
def _nothing_ended():
    ENDED.clear()


def note(task):
    ENDED.append((task.func, task.success, task.result))


def fail_in_the_database(task):
    row = Row.objects.create(text="of the hook")
    Row.objects.create(pk=row.pk, text="again")


async def note_async(task):
    note(task)


@both
@pytest.mark.parametrize("hook", [HOOK, note, note_async])
def test_a_hook_hears_of_the_end_of_a_call(drain, way, hook):
    drain(schedule(functions.write, ["here"], meta={"hook": hook}))
    assert [(f"{HERE}.write", True, "here")] == ENDED


@both
def test_a_hook_hears_of_a_failure_once_it_is_final(drain, way):
    drain(schedule(functions.write_and_fail, meta={"hook": HOOK}))
    assert ENDED == []
    drain(schedule(functions.write_and_fail, meta={"hook": HOOK, "retry": {"max_attempts": 1}}))
    ((_, success, error),) = ENDED
    assert not success and error.rstrip().endswith("ValueError: uh oh")


@pytest.mark.postgresql  # Which checks references at commit only.
@pytest.mark.django_db(transaction=True)
def test_a_hook_hears_of_the_end_once_though_a_reference_breaks_the_commit(drain):
    meta = {"hook": HOOK, "retry": {"max_attempts": 1}}
    assert drain(schedule(functions.refer_to_nobody, meta=meta)).state == "FAILED"
    ((_, success, error),) = ENDED
    assert not success and "IntegrityError" in error


@both
@pytest.mark.parametrize("atomic", [True, False])
def test_a_hook_that_breaks_a_statement_leaves_the_call_as_it_is(drain, way, atomic):
    hook = "tests.calls.test_after_a_call.fail_in_the_database"
    job = drain(schedule(functions.write, ["here"], meta={"hook": hook, "atomic": atomic}))
    assert (job.state, job.result) == ("COMPLETE", "here")
    assert "here" in Row.objects.values_list("text", flat=True)
    assert f"hook {hook} failed" in TaskRun.objects.get().error


@pytest.mark.django_db
def test_a_hook_hears_of_a_call_whose_workers_died_too_often():
    job = schedule(functions.write, meta={"hook": HOOK})
    (held,) = get_store("default").claim_by_id([job.pk], worker="one", lease_seconds=60)
    Executor("default", "one").fail_lost(held)
    ((_, success, error),) = ENDED
    assert not success and "WorkerLost" in error


@both
def test_the_row_of_a_success_is_kept_unless_it_is_not_wanted(drain, way):
    drain(schedule(functions.write, meta={"save": True}))
    assert Job.objects.count() == 1
    schedule(functions.write, meta={"save": False})
    drain()
    assert (Job.objects.count(), TaskRun.objects.count(), Row.objects.count()) == (1, 1, 2)
    drain(schedule(functions.write_and_fail, meta={"save": False, "retry": {"max_attempts": 1}}))
    assert Job.objects.filter(state="FAILED").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_call_that_is_executed_here_leaves_no_row_where_none_is_wanted():
    assert schedule(functions.write, meta={"save": False}).execute() == "written"
    assert not Job.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "meta, message",
    [
        ({"hook": "tests.there_is_none"}, "does not import"),
        ({"hook": 5}, "5 is no function and no dotted path"),
        ({"hook": lambda task: None}, "is a lambda"),
        ({"save": 1}, r"meta\['save'\]: must be True or False, not 1"),
    ],
)
def test_what_cannot_follow_a_call_is_refused(meta, message):
    with pytest.raises(CallError, match=message):
        schedule(functions.write, meta=meta)
    assert not Job.objects.exists()
