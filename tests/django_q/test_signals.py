"""Signals: what their receivers are given, of every job."""

from __future__ import annotations

import math

import pytest

from django_dbq import Job
from django_dbq.compat.django_q import async_task, fetch
from django_dbq.signals import post_execute, post_execute_in_worker, post_spawn, pre_enqueue, pre_execute
from django_dbq.testing import run_jobs
from tests.django_q import functions


@pytest.fixture
def received():
    """Receive every signal; what came, by the signal's name."""
    came = []
    signals = {"pre_enqueue": pre_enqueue, "pre_execute": pre_execute, "post_execute": post_execute}
    receivers = {}
    for name, signal in signals.items():
        receivers[name] = lambda sender, name=name, signal=None, **given: came.append((name, sender, given))
        signal.connect(receivers[name])
    yield came
    for name, signal in signals.items():
        signal.disconnect(receivers[name])


@pytest.mark.django_db
def test_a_task_is_told_before_it_is_enqueued_before_it_runs_and_after(received):
    task_id = async_task(math.copysign, 2, -2, task_name="n", group="g")
    run_jobs()
    names, senders, given = zip(*received, strict=True)
    assert names == ("pre_enqueue", "pre_execute", "post_execute") and {*senders} == {"django_q"}
    for values in given:
        task = values["task"]
        assert (task["id"], task["name"], task["func"], task["group"]) == (task_id, "n", "math.copysign", "g")
        assert (task["args"], task["kwargs"]) == ((2, -2), {})
    assert given[1]["func"] is math.copysign
    assert (given[2]["task"]["result"], given[2]["task"]["success"]) == (-2, True)
    assert given[2]["task"]["stopped"] >= given[2]["task"]["started"]


@pytest.mark.django_db
@pytest.mark.parametrize("sync", [False, True])
def test_a_result_is_told_as_what_the_function_returned(received, sync):
    async_task(functions.typed, sync=sync)
    run_jobs()
    assert received[-1][2]["task"]["result"] == functions.typed()


@pytest.mark.django_db
def test_the_worker_tells_of_the_end_together_with_the_function():
    told = []

    def note(sender, func, task, **kwargs):
        told.append((sender, func, task["success"], task["result"]))

    post_execute_in_worker.connect(note)
    try:
        async_task(functions.add, 1, 2)
        async_task(functions.fail)
        Job.objects.create(name="nothing")
        run_jobs()
    finally:
        post_execute_in_worker.disconnect(note)
    assert told[0] == ("django_q", functions.add, True, 3)
    assert (told[1][1:3], "uh oh" in told[1][3]) == ((functions.fail, False), True)
    assert told[2][1].__name__ == "nothing"


@pytest.mark.django_db
def test_a_failure_is_told_with_its_error(received):
    async_task(functions.fail)
    run_jobs()
    (_, _, given) = received[-1]
    assert not given["task"]["success"] and "ValueError: uh oh" in given["task"]["result"]


@pytest.mark.django_db
def test_the_jobs_of_the_settings_are_told_too(received):
    Job.objects.create(name="nothing")
    run_jobs()
    assert [name for name, _, _ in received] == ["pre_enqueue", "pre_execute", "post_execute"]
    assert received[1][2]["task"]["func"] == "tests.workflows.nothing"


def broken(**kwargs):
    raise LookupError("a broken receiver")


@pytest.fixture(params=["pre_enqueue", "pre_execute", "post_execute"])
def broken_receiver(request):
    signal = {"pre_enqueue": pre_enqueue, "pre_execute": pre_execute, "post_execute": post_execute}[
        request.param
    ]
    signal.connect(broken)
    yield request.param
    signal.disconnect(broken)


@pytest.mark.django_db
def test_a_receiver_that_raises_stops_what_it_comes_before_and_nothing_else(broken_receiver):
    if broken_receiver == "pre_enqueue":
        with pytest.raises(LookupError):
            async_task(functions.add, 1)
        return
    task_id = async_task(functions.add, 1)
    run_jobs()
    assert fetch(task_id).success == (broken_receiver == "post_execute")


@pytest.mark.django_db(transaction=True)
def test_a_worker_process_is_told_by_its_name():
    from io import StringIO

    from django.core.management import call_command

    names = []

    def note(sender, proc_name, **kwargs):
        names.append((sender, proc_name))

    post_spawn.connect(note)
    try:
        call_command("worker", burst=True, stdout=StringIO())
    finally:
        post_spawn.disconnect(note)
    ((sender, name),) = names
    assert sender == "django_q" and name.count(":") == 2
