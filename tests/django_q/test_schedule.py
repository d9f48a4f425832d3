"""schedule() of django-q: its arguments, over the schedules that every job has."""

from __future__ import annotations

import datetime
import json

import freezegun
import pytest
from django.db import IntegrityError

from django_dbq import CallError, Job
from django_dbq.compat.django_q import Schedule, fetch, result, schedule
from django_dbq.exceptions import ScheduleError
from django_dbq.testing import run_jobs
from tests.django_q import functions

pytestmark = pytest.mark.django_db

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def clock():
    with freezegun.freeze_time(NOON) as clock:
        yield clock


def test_a_schedule_calls_its_function_and_tells_its_hook(ended):
    made = schedule("math.copysign", 2, -2, hook=functions.note, schedule_type=Schedule.DAILY)
    assert (made.last_run(), made.success(), made.result()) == (None, None, None)
    run_jobs()
    assert (made.result(), made.success()) == (-2, True)
    assert [(task.func, task.args, task.result) for task in ended] == [("math.copysign", (2, -2), -2)]
    made.refresh_from_db()
    assert made.next_run == NOON + datetime.timedelta(days=1) and made.enabled


@pytest.mark.parametrize(
    "given, kind",
    [("O", "once"), ("I", "minutes"), ("BM", "bimonthly"), ("Q", "quarterly"), (Schedule.WEEKLY, "weekly")],
)
def test_a_type_may_be_given_by_the_letters_of_the_original(given, kind):
    assert schedule(functions.add, 1, schedule_type=given).kind == kind


def test_the_types_can_be_listed_for_a_form():
    assert {
        schedule(functions.add, 1, schedule_type=kind, **_more(kind)).kind for kind, _ in Schedule.TYPE
    } == {*Schedule.KINDS}


def _more(kind):
    return {"cron": "0 0 * * *"} if kind == Schedule.CRON else {}


def test_one_that_runs_once_is_deleted_when_it_has_fired_and_its_name_is_free():
    for number in range(2):
        made = schedule(functions.add, number, name="alone")
        run_jobs()
        assert not Schedule.objects.exists()
    jobs = Job.objects.filter(label="alone").order_by("pk")
    assert [result(job.pk) for job in jobs] == [0, 1] and made.pk


def test_one_that_runs_once_stays_where_its_repeats_are_told():
    made = schedule(functions.add, 1, name="kept", repeats=1)
    run_jobs()
    made.refresh_from_db()
    assert (made.enabled, made.repeats, made.result()) == (False, 0, 1)


def test_keyword_arguments_that_are_not_the_schedules_are_the_functions():
    made = schedule(functions.echo, 1, name="named", x=datetime.date(2026, 1, 1), cluster="other", repeats=1)
    run_jobs()
    assert made.result() == ((1,), {"x": datetime.date(2026, 1, 1)})
    assert (made.name, fetch(made.last_run().pk).cluster) == ("named", "other")


def test_options_of_its_calls_are_given_as_those_of_one_call():
    made = schedule(functions.echo, 1, timeout=7, q_options={"save": False, "cluster": "other"})
    job = made.job(NOON)
    call = json.loads(job.call)
    assert (call["kwargs"], call["options"]["timeout_seconds"], call["options"]["save"]) == ({}, 7, False)
    assert job.queue_name == "other"


def test_a_schedule_repeats_so_many_times(clock):
    made = schedule(functions.add, 1, schedule_type="I", minutes=5, repeats=2, next_run=NOON)
    for _ in range(4):
        run_jobs()
        clock.tick(datetime.timedelta(minutes=5))
    made.refresh_from_db()
    assert (made.runs.count(), made.enabled) == (2, False)


def test_the_time_that_a_call_was_due_is_given_to_the_argument_that_is_named():
    when = NOON - datetime.timedelta(hours=1)
    made = schedule(functions.echo, next_run=when, intended_date_kwarg="due", repeats=1)
    run_jobs()
    assert made.result() == ((), {"due": when})


def test_no_minutes_are_one_as_in_the_original():
    assert [
        schedule(functions.add, 1, schedule_type="I", **given).minutes for given in ({}, {"minutes": 0})
    ] == [
        1,
        1,
    ]


def test_a_cron_line_settles_the_first_time():
    assert schedule(functions.add, schedule_type=Schedule.CRON, cron="0 22 * * 1-5").next_run.hour == 22


def test_missed_times_are_caught_up_with_as_the_cluster_says(settings):
    settings.Q_CLUSTER = {"catch_up": False}
    made = schedule(functions.add, 1, schedule_type="H", next_run=NOON - datetime.timedelta(hours=5))
    run_jobs()
    assert made.runs.count() == 1


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"schedule_type": "C", "cron": "0 25 * * *"}, ScheduleError, "25"),
        ({"schedule_type": "X"}, ScheduleError, "'X' is no kind of schedule"),
        ({"x": {1}}, CallError, r"kwargs\['x'\] is a builtins.set"),
        ({"hook": "tests.there_is_none"}, CallError, "does not import"),
        ({"q_options": {"timout": 5}}, CallError, "Did you mean 'timeout'"),
        (
            {"q_options": {"broker_name": "long"}},
            CallError,
            "no option 'broker_name'. Did you mean 'cluster'",
        ),
        ({"intended_date_kwarg": "9x"}, ScheduleError, "'9x' is no name of an argument"),
        ({"timeout": "5"}, CallError, "^timeout: must be a number, not '5'"),
        ({"cluster": "x" * 200}, CallError, "^cluster: is 200 characters long"),
        ({"group": "g"}, CallError, "group is no option of a schedule"),
        ({"name": "taken"}, IntegrityError, "there is a schedule named 'taken' already"),
    ],
)
def test_a_schedule_that_could_not_be_fired_is_refused(given, error, message):
    schedule(functions.add, name="taken")
    with pytest.raises(error, match=message):
        schedule(functions.add, **given)
    assert Schedule.objects.count() == 1


OF_THE_ORIGINAL = {
    "func": "path",
    "schedule_type": "kind",
    "cluster": "queue_name",
    "intended_date_kwarg": "date_keyword",
    "task": r"last_run\(\)",
    "args": r"django_dbq\.compat\.django_q\.schedule\(\)",
    "kwargs": r"django_dbq\.compat\.django_q\.schedule\(\)",
    "hook": r"django_dbq\.compat\.django_q\.schedule\(\)",
}


@pytest.mark.parametrize("name", OF_THE_ORIGINAL)
def test_a_field_of_the_original_cannot_be_set_and_what_takes_its_place_is_told(name):
    made = schedule(functions.add, 1, name="kept")
    told = f"A Schedule has no {name}.*{OF_THE_ORIGINAL[name]}"
    with pytest.raises(AttributeError, match=told):
        setattr(made, name, "D")
    with pytest.raises(AttributeError, match=told):
        getattr(made, name)
    with pytest.raises(AttributeError, match=told):
        Schedule.objects.create(**{name: "math.floor"})
    with pytest.raises(AttributeError, match=told):
        Schedule.objects.update_or_create(name="kept", defaults={name: "math.floor"})
    assert not hasattr(made, name) and Schedule.objects.count() == 1
