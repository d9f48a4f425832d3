"""What cannot be kept is refused, by name, before anything is written."""

from __future__ import annotations

import datetime
import decimal
import re
import sys
import uuid
from enum import IntEnum
from types import MappingProxyType

import freezegun
import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.safestring import mark_safe

from django_dbq import CallError, Job, calls, deschedule, schedule
from django_dbq.testing import run_jobs
from tests.calls.functions import HERE, depth, echo, nothing

pytestmark = pytest.mark.django_db

PATH = f"{HERE}.echo"
CIRCLE = []
CIRCLE.append(CIRCLE)


def nested(levels):
    value = {"here": 1}
    for _ in range(levels):
        value = [value]
    return value


def refused(message, *args, by=schedule, **kwargs):
    """Refused with this message, and without a word to the database."""
    with CaptureQueriesContext(connection) as queries, pytest.raises(CallError) as caught:
        by(echo, *args, **kwargs)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not queries.captured_queries
    assert not Job.objects.exists()


NOT_JSON = {
    "object": (object(), r" is a builtins.object \(<object object"),
    "bytes": (b"x", r" is a builtins.bytes \(b'x'\), which JSON does not hold"),
    "set": ({1}, r" is a builtins.set \(\{1\}\), which JSON does not hold"),
    "named tuple": (sys.version_info, r" is a sys.version_info"),
    "NaN": (float("nan"), " is nan, which JSON does not have"),
    "infinity": (float("inf"), " is inf, which JSON does not have"),
    "NaN within": ({"a": [float("nan")]}, r"\['a'\]\[0\] is nan, which JSON does not have"),
    "keys": ({1: "x"}, " has the key 1, which is not a string"),
    "keys within": ([{"a": {None: 1}}], r"\[0\]\['a'\] has the key None, which is not a string"),
    "circle": (CIRCLE, r"\[0\].*: nested more than 100 deep, or holds itself"),
    "deep": (nested(101), r"\[0\].*: nested more than 100 deep, or holds itself"),
    "very deep": (nested(100_000), r"\[0\].*: nested more than 100 deep, or holds itself"),
    "digits": (10**5_000, " is an integer of too many digits to be read back"),
}


@pytest.mark.parametrize("by", [schedule, deschedule])
@pytest.mark.parametrize("kind", NOT_JSON)
def test_an_argument_that_is_not_json_is_named_by_its_position_or_name(kind, by):
    value, message = NOT_JSON[kind]
    refused(rf"^{PATH}: args\[1\]{message}", ["good", value], by=by)
    refused(rf"^{PATH}: kwargs\['x'\]{message}", ["good"], {"good": 1, "x": value}, by=by)


def test_an_argument_as_deep_as_allowed_comes_back():
    job = schedule(depth, [nested(100)])
    run_jobs()
    job.refresh_from_db()
    assert job.result == 100


def test_tuples_as_deep_as_allowed_come_back():
    value = 1
    for _ in range(101):
        value = (value,)
    job = schedule(nothing, [value])  # Not every database keeps a result as deep.
    (found,) = calls.read(job.call).args
    assert found == value
    run_jobs()
    job.refresh_from_db()
    assert job.state == "COMPLETE"


@pytest.mark.parametrize("levels", range(101, 1_200, 50))
def test_an_argument_is_refused_however_deep_it_is(levels):
    refused(rf"^{PATH}: args\[0\].*: nested more than 100 deep", [nested(levels)])


@pytest.mark.parametrize("args", ["abc", b"abc", {"a": 1}, {1}, 5, (value for value in "abc"), "", 0, {}])
def test_args_are_a_list_or_a_tuple(args):
    kind = type(args).__name__
    refused(rf"^args of {PATH} must be a list or tuple, not {kind}", args)
    refused(rf"^args of {PATH} must be a list or tuple, not {kind}", args, by=deschedule)


@pytest.mark.parametrize("kwargs", ["abc", ["a"], [("a", 1)], 5, [], ""])
def test_kwargs_are_a_dictionary(kwargs):
    kind = type(kwargs).__name__
    refused(rf"^kwargs of {PATH} must be a dictionary, not {kind}", None, kwargs)
    refused(rf"^kwargs of {PATH} must be a dictionary, not {kind}", None, kwargs, by=deschedule)


def test_names_of_kwargs_are_strings():
    refused(f"^kwargs of {PATH}: the name 1 is not a string", None, {1: "x"})


def test_a_call_is_no_larger_than_a_workspace(settings):
    settings.DBQ = {"WORKSPACE_BYTES_MAX": 1_000}
    empty = len(schedule(echo, [""]).call)
    Job.objects.all().delete()
    refused(
        rf"^the arguments of {PATH} are 1,001 bytes as JSON; at most 1,000 are kept"
        r" \(DBQ\[\"WORKSPACE_BYTES_MAX\"\]\)",
        ["x" * (1_001 - empty)],
    )
    assert len(schedule(echo, ["x" * (1_000 - empty)]).call) == 1_000


@pytest.mark.parametrize(
    "meta, message",
    [
        ("x", r"meta must be a dictionary, not str \('x'\)"),
        ([("atomic", True)], "meta must be a dictionary, not list"),
        ({"timeout": 5}, r"meta: has no option 'timeout'. Did you mean 'timeout_seconds'\?"),
        ({"retries": 5}, r"meta: has no option 'retries'. Did you mean 'retry'\?"),
        ({"queue": "a"}, r"meta: has no option 'queue'. Did you mean 'queue_name'\?"),
        (
            {"zzz": 5},
            "meta: has no option 'zzz'. Known: atomic, hook, queue_name, retry, save, timeout_seconds.",
        ),
        ({5: 5}, "meta: has no option 5. Known: "),
        ({"creation_hook": "a.b"}, "meta: has no option 'creation_hook'"),
        (
            {"retry": {"max_atempts": 5}},
            r"meta\['retry'\]: has no option 'max_atempts'. Did you mean 'max_at",
        ),
        ({"retry": {"power": 2}}, r"meta\['retry'\]: has no option 'power'"),
        ({"retry": 5}, r"meta\['retry'\]: must be a dictionary, not int \(5\)"),
        ({"retry": None}, r"meta\['retry'\]: must be a dictionary, not None"),
        ({"retry": {"max_attempts": 0}}, r"meta\['retry'\]\['max_attempts'\]: must be at least 1, not 0"),
        ({"retry": {"max_attempts": 1.5}}, r"\['max_attempts'\]: must be a whole number, not 1.5"),
        ({"retry": {"max_attempts": True}}, r"\['max_attempts'\]: must be a whole number, not True"),
        ({"retry": {"delay_seconds": "1"}}, r"\['delay_seconds'\]: must be a number, not '1'"),
        ({"retry": {"delay_seconds": -1}}, r"\['delay_seconds'\]: must be from 0 to"),
        ({"retry": {"delay_seconds": float("nan")}}, r"\['delay_seconds'\]: must be from 0 to"),
        ({"retry": {"backoff": 0.5}}, r"\['backoff'\]: must be at least 1, not 0.5"),
        ({"retry": {"jitter": 1}}, r"\['jitter'\]: must be True or False, not 1"),
        ({"retry": {"on": "ValueError"}}, r"\['on'\]: must be a list of exception paths"),
        ({"retry": {"not_on": [5]}}, r"\['not_on'\]\[0\]: must be a dotted path as a string"),
        ({"timeout_seconds": 0}, r"meta\['timeout_seconds'\]: must be at least 0.001, not 0"),
        ({"timeout_seconds": "5"}, r"meta\['timeout_seconds'\]: must be a number, not '5'"),
        ({"timeout_seconds": float("inf")}, r"meta\['timeout_seconds'\]: must be at least 0.001"),
        ({"atomic": 1}, r"meta\['atomic'\]: must be True or False, not 1"),
        ({"atomic": None}, r"meta\['atomic'\]: must be True or False, not None"),
        ({"queue_name": ""}, r"meta\['queue_name'\]: must be a queue's name, not ''"),
        ({"queue_name": None}, r"meta\['queue_name'\]: must be a queue's name, not None"),
        ({"queue_name": "q" * 101}, r"meta\['queue_name'\]: is 101 characters long; at most 100"),
    ],
    ids=str,
)
def test_meta_that_cannot_be_used_is_refused(meta, message):
    refused(message, meta=meta)


def test_every_fault_of_meta_is_told_at_once():
    refused(r"meta\['atomic'\]: .*; meta: has no option 'x'", meta={"atomic": 1, "x": 2})


@pytest.mark.parametrize("priority", [None, True, 1.0, "5", decimal.Decimal(5)])
def test_a_priority_is_a_whole_number(priority):
    refused(f"^priority must be a whole number, not {re.escape(repr(priority))}$", priority=priority)


@pytest.mark.parametrize("priority", [-32_769, 32_768, 10**30])
def test_a_priority_fits_its_column(priority):
    refused(f"^priority must be from -32768 to 32767, not {priority}$", priority=priority)


@pytest.mark.parametrize("priority", [-32_768, 0, 32_767])
def test_a_priority_at_the_edge_is_kept(priority):
    assert Job.objects.get(pk=schedule(echo, priority=priority).pk).priority == priority


@pytest.mark.parametrize(
    "run_after", [5, 1.5, "2026-01-01", datetime.date(2026, 1, 1), datetime.timedelta(1)]
)
def test_a_time_is_a_datetime(run_after):
    refused(rf"^run_after must be a datetime, not {re.escape(repr(run_after))}", run_after=run_after)


def test_a_time_that_is_text_is_told_its_type_and_nothing_of_order():
    refused("^run_after must be a datetime, not '2030-01-01', which is str$", run_after="2030-01-01")


def test_a_priority_in_the_originals_place_is_told_how_to_be_given():
    refused(r"run_after must be a datetime, not 9; name what follows kwargs: schedule\(", None, None, 9)


def test_a_group_is_a_group_or_its_reference():
    refused("^group must be a Group or its reference, not 5$", group=5)


def test_a_time_without_a_zone_is_taken_in_the_present_zone_with_djangos_warning():
    naive = datetime.datetime(2030, 1, 1, 12)
    with timezone.override("Europe/Vienna"), pytest.warns(RuntimeWarning, match=r"Job\.run_after received a"):
        job = schedule(echo, run_after=naive)
    # Django takes it in the default zone, TIME_ZONE, not in the one that is active.
    expected = timezone.make_aware(naive, timezone.get_default_timezone())
    assert job.run_after == expected and Job.objects.get(pk=job.pk).run_after == expected
    assert not job.staged


def test_arguments_come_back_as_what_they_were():
    args = (1, (2, (3,)), [4], datetime.date(2026, 1, 2), decimal.Decimal("1.50"), uuid.UUID(int=1))
    kwargs = MappingProxyType({"x": ({"y": (4,)},), "$": {"$": [1]}})
    call = calls.read(schedule(echo, args, kwargs).call)
    assert (tuple(call.args), call.kwargs) == (args, kwargs)


class Color(models.TextChoices):
    RED = "red"


def test_what_is_of_a_subclass_comes_back_as_one_of_the_class():
    with freezegun.freeze_time("2026-01-02"):
        given = [mark_safe("<b>"), Color.RED, IntEnum("Number", "ONE")(1), datetime.date.today()]
        found = calls.read(schedule(echo, given).call).args
    assert found == given
    assert [type(value) for value in found] == [str, str, int, datetime.date]
