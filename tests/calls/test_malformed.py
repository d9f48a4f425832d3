"""Rows of calls that nobody could run, and arguments that the function does not take."""

from __future__ import annotations

import pytest

from django_dbq import CallError, Job, schedule
from django_dbq.calls import sign
from tests.calls import functions
from tests.calls.conftest import BOTH

TEXTS = [
    "",
    "5",
    "{}",
    '{"args": 5, "kwargs": {}, "options": {}}',
    '{"args": [], "kwargs": {}, "options": 5}',
]


@pytest.mark.django_db
@pytest.mark.parametrize("text", TEXTS)
def test_a_job_with_a_call_of_another_form_is_not_created(text):
    with pytest.raises(CallError, match="not as schedule"):
        Job.objects.create(name=f"{functions.HERE}.nothing", call=text)
    assert not Job.objects.exists()


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("text", [text for text in TEXTS if '"args": 5' not in text])
def test_a_signed_row_of_another_form_fails_and_its_neighbours_run(drain, way, text):
    bad, good = schedule(functions.nothing), schedule(functions.nothing)
    bad.call = text
    Job.objects.filter(pk=bad.pk).update(call=text, signature=sign(bad))
    drain(bad)
    good.refresh_from_db()
    assert (bad.state, good.state) == ("FAILED", "COMPLETE")
    assert [run.outcome for run in bad.runs.all()] == ["failed"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("args", "kwargs", "fault"),
    [
        ([], {}, "missing a required argument"),
        ([1, 2], {}, "too many positional"),
        ([1], {"x": 1}, "unexpected"),
    ],
)
def test_arguments_that_the_function_does_not_take_are_refused_at_once(args, kwargs, fault):
    with pytest.raises(CallError, match=fault):
        schedule(functions.depth, args, kwargs)
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_a_retried_call_forgets_what_it_returned_before(drain):
    job = schedule(functions.nothing)
    Job.objects.filter(pk=job.pk).update(state="COMPLETE", result={"a": 1})
    job.retry()
    assert drain(job).state == "COMPLETE" and job.result is None
