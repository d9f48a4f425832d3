"""deschedule: the waiting calls of exactly these arguments, and no others."""

from __future__ import annotations

import pytest
from django.utils import timezone

from django_dbq import Job, deschedule, schedule
from django_dbq.calls import identity
from django_dbq.models import Group
from tests.calls import functions
from tests.calls.conftest import BOTH
from tests.calls.functions import HERE

both = pytest.mark.parametrize("way", BOTH)
in_a_test = pytest.mark.django_db


def states():
    return list(Job.objects.order_by("pk").values_list("state", flat=True))


@in_a_test
def test_every_waiting_call_of_these_arguments_is_cancelled_and_counted():
    for _ in range(3):
        schedule(functions.echo, [1], {"x": 2})
    before = timezone.now()
    assert deschedule(functions.echo, [1], {"x": 2}) == 3
    assert states() == ["CANCELLED"] * 3
    assert all(before <= job.finished <= timezone.now() for job in Job.objects.all())
    assert deschedule(functions.echo, [1], {"x": 2}) == 0


@in_a_test
def test_a_cancelled_call_does_not_run(drain):
    job = schedule(functions.write)
    assert deschedule(functions.write) == 1
    assert drain(job).state == "CANCELLED"


@in_a_test
@pytest.mark.parametrize(
    "args, kwargs",
    [
        ([], {}),
        ([1, 1], {"x": 2}),
        (["1"], {"x": 2}),
        ([1.0], {"x": 2}),
        ([True], {"x": 2}),
        ([[1]], {"x": 2}),
        ([1], {}),
        ([1], {"x": 3}),
        ([1], {"y": 2}),
        ([1], {"x": 2, "y": None}),
        ([1, {"x": 2}], {}),
        ([{"x": 2}], {}),
    ],
)
def test_other_arguments_are_another_call(args, kwargs):
    schedule(functions.echo, [1], {"x": 2})
    schedule(functions.echo, args, kwargs)
    assert deschedule(functions.echo, args, kwargs) == 1
    assert states() == ["NEW", "CANCELLED"]


@in_a_test
def test_another_function_is_another_call():
    schedule(functions.echo, [1])
    schedule(functions.nothing, [1])
    assert deschedule(functions.nothing, [1]) == 1
    assert states() == ["NEW", "CANCELLED"]


@in_a_test
def test_the_order_of_keys_does_not_matter_at_any_depth():
    schedule(functions.echo, [{"a": 1, "b": {"c": 2, "d": 3}}], {"x": 1, "y": [{"p": 1, "q": 2}]})
    assert (
        deschedule(functions.echo, [{"b": {"d": 3, "c": 2}, "a": 1}], {"y": [{"q": 2, "p": 1}], "x": 1}) == 1
    )


@in_a_test
def test_the_order_of_a_list_does():
    schedule(functions.echo, [1, 2])
    assert deschedule(functions.echo, [2, 1]) == 0


@in_a_test
def test_a_tuple_is_another_argument_than_a_list():
    schedule(f"{HERE}.echo", ((1, 2),), None)
    assert deschedule(functions.echo, [[1, 2]], {}) == 0
    assert deschedule(functions.echo, [(1, 2)], {}) == 1
    schedule(functions.echo)
    assert deschedule(functions.echo, (), {}) == 1


@in_a_test
def test_options_priority_time_queue_and_group_do_not_matter():
    later = timezone.now() + timezone.timedelta(days=1)
    schedule(functions.echo, run_after=later)
    schedule(functions.echo, priority=9, meta={"queue_name": "other", "atomic": False})
    schedule(functions.echo, group="group")
    assert deschedule(functions.echo) == 3
    assert states() == ["CANCELLED"] * 3


@in_a_test
def test_a_call_that_failed_and_waits_is_cancelled(drain):
    job = drain(schedule(functions.fail))
    assert job.state == "READY" and deschedule(functions.fail) == 1
    job.refresh_from_db()
    assert (job.state, job.error) == ("CANCELLED", "ValueError: too late")


@in_a_test
def test_the_final_call_of_a_group_is_cancelled():
    schedule(functions.nothing, group="group")
    final = schedule(functions.echo)
    Group.objects.get().on_completion(final)
    assert states() == ["NEW", "WAITING"]
    assert deschedule(functions.echo) == 1
    assert states() == ["NEW", "CANCELLED"]


@in_a_test
@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING", "COMPLETE", "FAILED", "CANCELLED"])
def test_what_runs_or_has_ended_is_left(state):
    job = schedule(functions.echo)
    Job.objects.filter(pk=job.pk).update(state=state)
    before = Job.objects.values().get()
    assert deschedule(functions.echo) == 0
    assert Job.objects.values().get() == before and not before["cancel_requested"]


@both
def test_a_call_may_deschedule_others(drain, way):
    first = schedule(functions.deschedule_writes, priority=9)
    others = [schedule(functions.write, ["x"]), schedule(functions.write, ["x"])]
    other = schedule(functions.write, ["y"])
    drain(first)
    assert (first.state, first.result) == ("COMPLETE", 2)
    assert [Job.objects.get(pk=job.pk).state for job in [*others, other]] == ["CANCELLED"] * 2 + ["COMPLETE"]


@both
def test_a_call_leaves_itself_and_cancels_its_like(drain, way):
    job = schedule(functions.deschedule_myself, priority=9)
    like = schedule(functions.deschedule_myself, run_after=timezone.now() + timezone.timedelta(days=1))
    drain(job)
    assert (job.state, job.result) == ("COMPLETE", 1)
    like.refresh_from_db()
    assert like.state == "CANCELLED"


@both
def test_what_a_failing_call_has_descheduled_waits_again(drain, way):
    job = schedule(functions.deschedule_writes_and_fail, priority=9)
    later = timezone.now() + timezone.timedelta(days=1)
    other = schedule(functions.write, ["x"], run_after=later)
    drain(job)
    other.refresh_from_db()
    assert (job.state, other.state, other.finished) == ("READY", "NEW", None)


@in_a_test
def test_a_method_of_a_class_is_descheduled_as_it_was_scheduled():
    schedule(functions.Things.of_class, [1])
    assert deschedule(f"{HERE}.Things.of_class", [1]) == 1


@pytest.mark.django_db
def test_the_calls_of_a_function_that_has_gone_are_descheduled_by_its_path():
    job = schedule(functions.nothing)
    gone = f"{HERE}.gone"
    Job.objects.filter(pk=job.pk).update(name=gone, identity=identity(gone))
    assert deschedule(gone) == 1
