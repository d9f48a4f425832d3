"""A call's row is signed: one that was changed fails before anything of it is imported."""

from __future__ import annotations

import logging
import sys

import pytest

from django_dbq import Job, TaskRun, schedule
from django_dbq.models import uuid7
from tests.calls.conftest import BOTH

MARKED = "tests.calls.marked"
FUNCTION, ANOTHER = f"{MARKED}.function", f"{MARKED}.another"

both = pytest.mark.parametrize("way", BOTH)
SEEN = []


def see(*args, **kwargs):
    SEEN.append((args, kwargs))


@pytest.fixture
def job():
    """A call of a module that is not imported now."""
    return forgotten(schedule(FUNCTION, ["one"], {"x": "two"}, meta={"retry": {"max_attempts": 3}}))


def forgotten(job):
    del sys.modules[MARKED]
    return job


def imported():
    return MARKED in sys.modules


def change(job, **columns):
    """Write the row as somebody could who has the table, but not the key."""
    assert Job.objects.filter(pk=job.pk).update(**columns) == 1
    job.pk = columns.get("id", job.pk)


def assert_refused(job):
    assert not imported()
    assert job.state == "FAILED"
    assert job.error == (
        f"django_dbq.exceptions.BadSignature: the signature of job {job.pk} does not hold: its function,"
        " arguments, options or queue are not as they were when it was created with this SECRET_KEY, so"
        " nothing was imported or run. If SECRET_KEY was changed, put the old key in SECRET_KEY_FALLBACKS,"
        " then retry the job."
    )
    runs = TaskRun.objects.filter(job_id=job.pk).values_list("outcome", "error")
    assert [*runs] == [("failed", job.error)]


CHANGES = {
    "name": lambda job: {"name": ANOTHER},
    "next_task": lambda job: {"next_task": ANOTHER},
    "no next_task": lambda job: {"next_task": ""},
    "name and next_task": lambda job: {"name": ANOTHER, "next_task": ANOTHER},
    "all that names it": lambda job: {"name": ANOTHER, "next_task": ANOTHER, "plan": [ANOTHER]},
    "plan": lambda job: {"plan": [ANOTHER]},
    "longer plan": lambda job: {"plan": [FUNCTION, ANOTHER]},
    "no plan": lambda job: {"plan": None},
    "empty plan": lambda job: {"plan": []},
    "plan of another kind": lambda job: {"plan": FUNCTION},
    "plan of numbers": lambda job: {"plan": [5]},
    "plan a number": lambda job: {"plan": 5},
    "plan an object": lambda job: {"plan": {FUNCTION: 1}},
    "args": lambda job: {"call": job.call.replace('"one"', '"other"')},
    "more args": lambda job: {"call": job.call.replace('"one"', '"one", 1')},
    "kwargs": lambda job: {"call": job.call.replace('"two"', '"other"')},
    "name of a kwarg": lambda job: {"call": job.call.replace('"x"', '"y"')},
    "options": lambda job: {"call": job.call.replace("3", "4")},
    "no options": lambda job: {"call": '{"args": [], "kwargs": {}, "options": {}}'},
    "spaces": lambda job: {"call": job.call.replace(" ", "")},
    "no JSON": lambda job: {"call": "{"},
    "empty call": lambda job: {"call": ""},
    "queue_name": lambda job: {"queue_name": "other"},
    "signature": lambda job: {"signature": job.signature[::-1]},
    "shorter signature": lambda job: {"signature": job.signature[:-1]},
    "empty signature": lambda job: {"signature": ""},
    "no signature": lambda job: {"signature": None},
    "signature of another": lambda job: {"signature": forgotten(schedule(FUNCTION, ["one"])).signature},
    "signature with a colon": lambda job: {"signature": f":{job.signature}"},
    "id": lambda job: {"id": uuid7()},
}


@both
@pytest.mark.parametrize("what", CHANGES)
def test_a_row_that_was_changed_fails_and_nothing_of_it_is_imported(job, drain, way, what):
    others = {pk for (pk,) in Job.objects.values_list("pk")}
    columns = CHANGES[what](job)
    Job.objects.exclude(pk__in=others).delete()  # Made for its signature.
    change(job, **columns)
    assert_refused(drain(job))


@both
def test_a_workflows_row_does_not_become_a_call(job, drain, way):
    text, signature = job.call, job.signature
    job.delete()
    job = Job.objects.create(name="nothing")
    change(job, name=FUNCTION, next_task=FUNCTION, plan=[FUNCTION], call=text, signature=signature)
    assert_refused(drain(job))


@both
def test_a_call_does_not_become_a_job_of_the_settings(job, drain, way):
    change(job, call=None)
    drain(job)
    assert (job.state, job.attempt) == ("NEW", 0) and "JOBS has no job named" in job.error
    assert not imported()


@pytest.mark.django_db(transaction=True)
def test_a_row_that_was_changed_is_one_line_of_the_log(job, drain, caplog):
    change(job, queue_name="other")
    with caplog.at_level(logging.INFO, "django_dbq"):
        drain(job)
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.levelno == logging.ERROR
    assert line.message.startswith(f"Job failed: job={job.pk} name={FUNCTION} task={FUNCTION}")
    assert "BadSignature: the signature of job" in line.message


@both
def test_a_row_that_was_changed_harms_no_other(job, drain, way):
    change(job, call="{")
    good = schedule(see, ["good"])
    drain(good)
    assert good.state == "COMPLETE"


@both
def test_a_row_that_was_changed_does_not_run_when_it_is_tried_again(job, drain, way):
    change(job, call=job.call.replace('"one"', '"other"'))
    drain(job)
    assert job.retry()
    drain(job)
    assert job.state == "FAILED" and "BadSignature" in job.error and not imported()


@both
def test_what_is_not_signed_may_change(job, drain, way):
    change(job, priority=-5, run_after=job.created, identity="", workspace={"a": 1}, error="x")
    drain(job)
    assert (job.state, job.result) == ("COMPLETE", [["one"], {"x": "two"}])


# Keys.


@pytest.fixture
def under_the_old_key(settings):
    settings.SECRET_KEY = "old"
    job = forgotten(schedule(FUNCTION))
    settings.SECRET_KEY = "new"
    return job


@both
def test_a_call_of_an_old_key_runs_while_that_is_a_fallback(drain, under_the_old_key, settings, way):
    settings.SECRET_KEY_FALLBACKS = ["older", "old"]
    assert drain(under_the_old_key).state == "COMPLETE"


@both
def test_a_call_of_a_key_that_is_no_more_fails(drain, under_the_old_key, settings, way):
    settings.SECRET_KEY_FALLBACKS = ["older"]
    assert_refused(drain(under_the_old_key))


@both
def test_a_call_saved_under_another_queue_is_signed_with_the_new_key(drain, under_the_old_key, settings, way):
    settings.SECRET_KEY_FALLBACKS = ["old"]
    under_the_old_key.queue_name = "other"
    under_the_old_key.save()
    settings.SECRET_KEY_FALLBACKS = []
    assert drain(under_the_old_key).state == "COMPLETE"


# Saving.


@both
@pytest.mark.parametrize("how", [{}, {"update_fields": ["queue_name"]}, {"update_fields": ("queue_name",)}])
def test_a_call_saved_under_another_queue_still_runs(job, drain, way, how):
    job = Job.objects.get(pk=job.pk)
    job.queue_name = "other"
    job.save(**how)
    job.queue_name = "another"
    job.save(**how)
    drain(job)
    assert (job.state, job.queue_name) == ("COMPLETE", "another")


@both
def test_a_call_read_in_part_and_saved_under_another_queue_still_runs(job, drain, way):
    part = Job.objects.only("queue_name").get(pk=job.pk)
    part.queue_name = "other"
    part.save()
    assert drain(job).state == "COMPLETE"


@both
def test_a_finished_call_saved_under_another_queue_runs_again(job, drain, way):
    drain(job)
    job.queue_name = "other"
    job.save()
    assert job.retry()
    drain(job)
    assert (job.state, TaskRun.objects.filter(job=job).count()) == ("COMPLETE", 2)


@both
@pytest.mark.parametrize("what", ["name", "all that names it", "args", "queue_name", "signature", "id"])
def test_a_row_that_was_changed_is_not_signed_by_saving_it_under_another_queue(job, drain, way, what):
    change(job, **CHANGES[what](job))
    job = Job.objects.get(pk=job.pk)
    job.queue_name = "another"
    job.save()
    drain(job)
    assert job.queue_name == "another"
    assert_refused(job)


@both
def test_a_call_whose_name_the_caller_changes_is_not_signed(job, drain, way):
    job.name = job.next_task = ANOTHER
    job.queue_name = "another"
    job.save()
    assert_refused(drain(job))


@both
def test_calls_made_in_one_statement_are_signed(job, drain, way):
    copies = [Job(name=job.name, call=job.call, identity=job.identity) for _ in range(2)]
    Job.objects.bulk_create(copies)
    drain(job)
    assert set(Job.objects.values_list("state", flat=True)) == {"COMPLETE"}


# What the function is given is what was signed.

VALUES = [
    *(1e22, 1e-7, 0.1 + 0.2, -0.0, 1.0, 5e-324, 1.7976931348623157e308),
    *(0, 1, -1, 2**63, -(2**63) - 1, 10**40, True, False, None),
    *("", "naïve ☃ 🐈", "\u2028", "a\tb\\\"'", "\0", "\ud800", "x" * 10_000),
    *([], {}, [[]], {"": {"": []}}, {"b": 1, "a": [1, "1", 1.0]}),
]


@both
def test_arguments_come_as_they_were_given(drain, way):
    job = schedule(see, VALUES, {f"v{index} ☃": value for index, value in enumerate(VALUES)})
    SEEN.clear()
    assert drain(job).state == "COMPLETE"
    ((args, kwargs),) = SEEN
    assert repr([*args]) == repr(VALUES)  # 1 is not 1.0, nor True; and keys have an order.
    assert repr([*kwargs.values()]) == repr(VALUES) and [*kwargs][-1] == f"v{len(VALUES) - 1} ☃"
