"""Which functions a job can be made of, and how each is found again."""

from __future__ import annotations

import builtins
import datetime
import functools

import pytest

from django_dbq import CallError, DBQError, Job, deschedule, schedule
from django_dbq.engine.workflow import TASK_PATH_MAX
from django_dbq.testing import run_jobs
from tests.calls import functions
from tests.calls.functions import HERE, MoreThings, Things

pytestmark = pytest.mark.django_db


def called(function, *args, **kwargs):
    """Schedule a call, run it, and return its path and its result."""
    job = schedule(function, args, kwargs)
    run_jobs()
    job.refresh_from_db()
    assert job.state == "COMPLETE", job.error
    return job.name, job.result


@pytest.mark.parametrize(
    "function, path, result",
    [
        (functions.echo, "echo", {"args": [1], "kwargs": {}}),
        (functions.echo_async, "echo_async", {"args": [1], "kwargs": {}}),
        (functions.decorated, "decorated", ["decorated", 1]),
        (functions.cached, "cached", ["cached", 1]),
        (Things.static, "Things.static", ["static", 1]),
        (Things().static, "Things.static", ["static", 1]),
        (Things.of_class, "Things.of_class", ["Things", 1]),
        (Things().of_class, "Things.of_class", ["Things", 1]),
        (MoreThings.of_class, "MoreThings.of_class", ["MoreThings", 1]),
        (Things.Inner.static, "Things.Inner.static", ["inner", 1]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_module_holds_is_called_given_as_object_or_by_its_path(function, path, result):
    assert called(function, 1) == (f"{HERE}.{path}", result)
    assert called(f"{HERE}.{path}", 1) == (f"{HERE}.{path}", result)


def test_an_inherited_method_of_a_class_is_called_by_the_path_of_the_heir():
    assert called(f"{HERE}.MoreThings.static", 1)[1] == ["static", 1]


@pytest.mark.parametrize("function", [len, "builtins.len"])
def test_a_builtin_is_called(function):
    assert called(function, [1, 2, 3]) == ("builtins.len", 3)


@pytest.mark.parametrize("path", [f"{HERE}.a_lambda", f"{HERE}.replaced"])
def test_a_path_may_lead_to_what_has_no_path_of_its_own(path):
    assert called(path) == (path, None)


def refused(function, message):
    """Both refuse, with this message, and nothing is written; deschedule looks at no path given as text."""
    for ask in (schedule,) if isinstance(function, str) else (schedule, deschedule):
        with pytest.raises(CallError) as caught:
            ask(function)
        assert message in str(caught.value)
    assert isinstance(caught.value, (DBQError, ValueError))
    assert not Job.objects.exists()


def nested():
    def inner():
        """Only to be refused."""

    class Local:
        @classmethod
        def method(cls):
            """Only to be refused."""

    return inner, Local.method


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda: None, "is a lambda: a worker finds functions by module and name only"),
        (nested()[0], "nested.<locals>.inner is defined within a function: a worker finds functions by"),
        (nested()[1], "Local.method is defined within a function"),
        (Things().of_instance, "Things.of_instance is bound to an instance, which a worker does not have"),
        (Things.of_instance, "Things.of_instance is a method of instances; static and class methods can be"),
        (functools.partial(functions.echo, 1), "give the function itself, and its arguments as args and"),
        (Things(), "is no function and no dotted path"),
        ([].append, "is no function and no dotted path"),
        (None, "None is no function and no dotted path"),
        (7, "7 is no function and no dotted path"),
        (functions.replaced, f"'{HERE}.another' leads to something else than the function given; give its"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_object_that_no_path_leads_to_is_refused(function, message):
    refused(function, message)


@pytest.mark.parametrize(
    "path, message",
    [
        ("", "'' does not import: ImportError: '' is no dotted path"),
        ("len", "'len' does not import: ImportError: 'len' is no dotted path"),
        (".len", "'.len' does not import"),
        ("builtins.", "'builtins.' does not import"),
        ("tests..echo", "'tests..echo' does not import"),
        ("there_is_none.echo", "'there_is_none.echo' does not import: ImportError: no module named"),
        ("tests.there_is_none.echo", "ImportError: tests has no attribute 'there_is_none'"),
        (f"{HERE}.there_is_none", f"ImportError: {HERE} has no attribute 'there_is_none'"),
        (f"{HERE}.Things.there_is_none", f"ImportError: {HERE}.Things has no attribute 'there_is_none'"),
        (f"{HERE}.Things.of_instance", "Things.of_instance is a method of instances; static and class"),
        (f"{HERE}.number", f"'{HERE}.number' is not callable, but int"),
        (HERE, f"'{HERE}' is not callable, but module"),
        ("tests.chaos.broken.raises.task", "does not import: ValueError: this module is broken"),
        ("tests.chaos.broken.exits.task", "does not import: SystemExit: 3"),
    ],
)
def test_a_path_that_leads_to_nothing_to_call_is_refused(path, message):
    refused(path, message)


def test_what_stands_in_main_is_refused(monkeypatch):
    def function():
        """Only to be refused."""

    function.__module__, function.__qualname__ = "__main__", "function"
    import __main__

    monkeypatch.setattr(__main__, "function", function, raising=False)
    message = "'__main__.function' is in __main__, which a worker does not import; move it to a module"
    refused(function, message)
    refused("__main__.function", message)


def test_a_path_that_the_column_cannot_hold_is_refused():
    path = f"{HERE}.long_{'g' * 300}"
    assert callable(getattr(functions, path.rpartition(".")[2])) and len(path) > TASK_PATH_MAX
    with pytest.raises(CallError, match=f"is {len(path)} characters long; at most {TASK_PATH_MAX}"):
        schedule(path)
    assert not Job.objects.exists()


def test_a_call_that_shares_its_name_with_a_job_of_the_settings_takes_nothing_from_it(settings):
    settings.JOBS = {f"{HERE}.echo": {"tasks": ["tests.workflows.nothing"], "queue_name": "other"}}
    job = schedule(functions.echo)
    assert (job.queue_name, job.priority) == ("default", 5)
    run_jobs()
    job.refresh_from_db()
    assert job.result == {"args": [], "kwargs": {}}


def test_a_class_is_called_too():
    assert called(builtins.dict, a=1) == ("builtins.dict", {"a": 1})
    job = schedule(datetime.date, [2026, 1, 2])
    run_jobs()
    job.refresh_from_db()
    assert job.result == "2026-01-02"
