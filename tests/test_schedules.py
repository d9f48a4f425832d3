"""Schedules: rows that become jobs at their slots, as a project makes and reads them."""

from __future__ import annotations

import datetime
import sys

import freezegun
import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings

from django_dbq import CallError, Job, Schedule, ScheduleError, UnknownJob, WorkspaceError
from django_dbq.models.schedule import CATCH_UP_MAX
from django_dbq.store import get_store
from django_dbq.testing import run_jobs

pytestmark = pytest.mark.django_db

MARKED = "tests.calls.marked"
FUNCTION = f"{MARKED}.function"
SEEN = []


def at(text):
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


NOON = at("2026-01-01T12:00")
DAY, HOUR, MINUTE = (datetime.timedelta(**{unit: 1}) for unit in ("days", "hours", "minutes"))


@pytest.fixture(autouse=True)
def clock():
    with freezegun.freeze_time(NOON) as clock:
        yield clock


def a_schedule(**fields):
    return Schedule.objects.create(**{"path": "nothing", "kind": "daily", **fields})


def fire(now):
    """Fire what is due until nothing is; return how many jobs that made."""
    jobs, store = 0, get_store("default")
    while (fired := store.fire(now)).more:
        jobs += fired.jobs
    assert not fired.failed, fired.failed[0].error
    return jobs + fired.jobs


def slots(schedule):
    return [*schedule.runs.order_by("slot").values_list("slot", flat=True)]


def again(schedule):
    return Schedule.objects.get(pk=schedule.pk)


def end_jobs():
    run_jobs()
    assert not Job.objects.exclude(state="COMPLETE").exists()


# What a slot makes.


def test_a_workflow_becomes_a_job_at_its_slot(clock):
    schedule = a_schedule(path="five", workspace={"n": 1}, next_run=NOON + HOUR, name="counting")
    assert run_jobs() == 0
    clock.move_to(NOON + HOUR)
    assert run_jobs() == 1
    job = Job.objects.get()
    assert (job.name, job.state, job.label) == ("five", "COMPLETE", "counting")
    assert job.workspace == {"n": 1, "count": 5}
    assert (slots(schedule), again(schedule).next_run) == ([NOON + HOUR], NOON + HOUR + DAY)


def test_its_jobs_have_the_queue_and_priority_of_the_workflow_unless_it_names_a_queue():
    a_schedule(path="other_queue")
    a_schedule(path="other_queue", queue_name="mine")
    fire(NOON)
    assert set(Job.objects.values_list("queue_name", "priority")) == {("other", 3), ("mine", 3)}


def test_a_call_becomes_a_job_at_its_slot():
    Schedule.of_call(FUNCTION, [1, "a"], {"b": None}, kind="hourly").save()
    assert run_jobs() == 1
    assert Job.objects.get().result == [[1, "a"], {"b": None}]


def test_a_call_keeps_its_options_and_queue():
    options = {"timeout_seconds": 5, "queue_name": "mine"}
    Schedule.of_call(FUNCTION, options=options, kind="hourly").save()
    fire(NOON)
    job = Job.objects.get()
    assert job.queue_name == "mine" and '"timeout_seconds": 5' in job.call


def test_a_workflow_is_handed_the_slot_under_a_key_of_its_workspace_in_the_time_zone_of_the_schedule():
    a_schedule(date_keyword="day", time_zone="Asia/Tokyo", workspace={"n": 1})
    fire(NOON)
    assert Job.objects.get().workspace == {"n": 1, "day": "2026-01-01T21:00:00+09:00"}


def test_a_call_is_handed_the_slot_as_an_argument():
    Schedule.of_call(FUNCTION, kwargs={"a": 1}, date_keyword="day", kind="hourly").save()
    assert run_jobs() == 1
    assert Job.objects.get().result == [[], {"a": 1, "day": "2026-01-01T12:00:00Z"}]


def test_the_last_run_its_result_and_its_success_can_be_asked_for(clock):
    schedule = Schedule.of_call(FUNCTION, [1], kind="daily")
    schedule.save()
    assert (schedule.last_run(), schedule.result(), schedule.success()) == (None, None, None)
    fire(NOON)
    assert (schedule.last_run(), schedule.success()) == (Job.objects.get(), None)
    end_jobs()
    assert (schedule.result(), schedule.success()) == ([[1], {}], True)
    failing = a_schedule(path="boom")
    run_jobs()
    assert (failing.success(), failing.last_run().state) == (False, "FAILED")


def test_pruning_a_job_forgets_its_slot_and_deleting_a_schedule_leaves_its_jobs(clock):
    schedule = a_schedule()
    run_jobs()
    clock.move_to(NOON + 2 * HOUR)
    assert Job.objects.delete_old(hours=1) == 1
    assert (slots(schedule), schedule.last_run()) == ([], None)
    clock.move_to(NOON + DAY)
    run_jobs()
    schedule.delete()
    assert Job.objects.count() == 1


# Which slots.


@pytest.mark.parametrize("kind", Schedule.KINDS.values)
def test_every_kind_fires_at_the_slots_of_its_rule(kind):
    schedule = a_schedule(kind=kind, minutes=7, cron="30 6 * * *", repeats=9)
    expected = schedule.upcoming(4)
    assert fire(expected[-1]) == len(expected)
    assert slots(schedule) == expected
    assert all(schedule.rule().next(slot - datetime.timedelta(microseconds=1)) == slot for slot in expected)


def test_the_ends_of_months_do_not_drift():
    schedule = a_schedule(kind="monthly", next_run=at("2026-01-31T08:00"))
    for day in ("2026-02-15T00:00", "2026-03-15T00:00", "2026-04-15T00:00"):
        fire(at(day))
        schedule = again(schedule)
        schedule.name = day  # Saved between its slots, it is where it was.
        schedule.save()
        schedule.refresh_from_db()
        schedule.save()
    assert [f"{slot:%m-%d}" for slot in slots(schedule)] == ["01-31", "02-28", "03-31"]


@pytest.mark.parametrize(
    ("cron", "first", "expected"),
    [
        # 02:30 does not come on the 29th of March: its slot is right after the change.
        ("30 2 * * *", "2026-03-28T00:00", ["03-28 02:30 CET", "03-29 03:00 CEST", "03-30 02:30 CEST"]),
        # 02:30 comes twice on the 25th of October: its slot is the first.
        ("30 2 * * *", "2026-10-24T00:00", ["10-24 02:30 CEST", "10-25 02:30 CEST", "10-26 02:30 CET"]),
        # Every hour is every hour that passes.
        ("30 * * * *", "2026-03-29T00:00", ["03-29 01:30 CET", "03-29 03:30 CEST", "03-29 04:30 CEST"]),
        ("30 * * * *", "2026-10-25T00:00", ["10-25 02:30 CEST", "10-25 02:30 CET", "10-25 03:30 CET"]),
    ],
)
def test_the_two_odd_hours_of_a_year(cron, first, expected):
    schedule = a_schedule(kind="cron", cron=cron, time_zone="Europe/Berlin", next_run=at(first))
    assert [f"{slot:%m-%d %H:%M %Z}" for slot in schedule.upcoming(3)] == expected
    assert fire(schedule.upcoming(3)[-1]) == 3
    assert [f"{schedule.shown(slot):%m-%d %H:%M %Z}" for slot in slots(schedule)] == expected


def test_a_cron_line_begins_at_its_next_slot_not_when_it_is_made():
    schedule = a_schedule(kind="cron", cron="0 6 * * *")
    assert (fire(NOON), schedule.next_run) == (0, at("2026-01-02T06:00"))
    assert a_schedule(kind="cron", cron="0 12 * * *").next_run == NOON


def test_every_missed_slot_is_caught_up_in_order():
    schedule = a_schedule(kind="hourly", date_keyword="slot")
    assert fire(NOON + 3 * HOUR) == 4
    assert [*Job.objects.order_by("created", "id").values_list("workspace__slot", flat=True)] == [
        (NOON + n * HOUR).isoformat() for n in range(4)
    ]
    assert again(schedule).next_run == NOON + 4 * HOUR


def test_one_pass_catches_up_a_bounded_number_and_the_next_goes_on():
    schedule = a_schedule(kind="minutes", minutes=1)
    later = NOON + (2 * CATCH_UP_MAX) * MINUTE
    store = get_store("default")
    passes = [store.fire(later) for _ in range(4)]
    assert [(fired.jobs, fired.more) for fired in passes] == [
        (CATCH_UP_MAX, True),
        (CATCH_UP_MAX, True),
        (1, False),
        (0, False),
    ]
    assert len(slots(schedule)) == 2 * CATCH_UP_MAX + 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "minutes", "minutes": 1}, "2030-06-15T10:20"),
        ({"kind": "cron", "cron": "*/7 * * * *"}, "2030-06-15T10:14"),
        ({"kind": "monthly"}, "2030-06-01T12:00"),
        ({"kind": "cron", "cron": "0 0 29 2 *"}, "2028-02-29T00:00"),
        ({"kind": "once", "repeats": 1}, "2026-01-01T12:00"),
    ],
)
def test_or_only_the_last_of_them_however_many(fields, expected):
    schedule = a_schedule(catch_up=False, **fields)
    assert fire(at("2030-06-15T10:20")) == 1
    assert slots(schedule) == [at(expected)]
    assert again(schedule).next_run is None or again(schedule).next_run > at("2030-06-15T10:20")


def test_without_overlap_a_slot_is_passed_over_while_the_job_before_it_has_not_ended():
    schedule = a_schedule(kind="hourly", no_overlap=True)
    assert [fire(NOON + n * HOUR) for n in range(3)] == [1, 0, 0]
    end_jobs()
    assert fire(NOON + 3 * HOUR) == 1
    assert slots(schedule) == [NOON, NOON + 3 * HOUR]


def test_without_overlap_catching_up_makes_one_job():
    schedule = a_schedule(kind="hourly", no_overlap=True)
    assert fire(NOON + 5 * HOUR) == 1
    assert (slots(schedule), again(schedule).next_run) == ([NOON], NOON + 6 * HOUR)


def test_repeats_count_down_and_the_schedule_is_then_disabled_and_kept():
    schedule = a_schedule(kind="hourly", repeats=3)
    assert len(schedule.upcoming(9)) == 3
    assert fire(NOON) == 1
    assert (again(schedule).repeats, again(schedule).enabled) == (2, True)
    assert fire(NOON + 9 * HOUR) == 2
    assert (again(schedule).repeats, again(schedule).enabled, again(schedule).error) == (0, False, None)
    assert fire(NOON + DAY) == 0


def test_repeats_count_jobs_not_slots():
    schedule = a_schedule(kind="hourly", repeats=3, catch_up=False)
    assert fire(NOON + 9 * HOUR) == 1
    assert again(schedule).repeats == 2


def test_once_is_once_and_then_gone_with_its_job_left():
    a_schedule(kind="once", name="alone")
    assert (fire(NOON), fire(NOON + DAY)) == (1, 0)
    assert not Schedule.objects.exists()
    assert Job.objects.get().label == "alone"


def test_once_whose_repeats_are_told_is_disabled_and_kept():
    schedule = a_schedule(kind="once", repeats=5)
    assert (fire(NOON), fire(NOON + DAY)) == (1, 0)
    assert (again(schedule).enabled, again(schedule).next_run) == (False, None)


def test_a_disabled_schedule_does_not_fire_nor_what_it_slept_through():
    schedule = a_schedule(kind="hourly")
    schedule.enabled = False
    schedule.save()
    assert (fire(NOON + 5 * HOUR), schedule.upcoming(3)) == (0, [])
    with freezegun.freeze_time(NOON + 5 * HOUR + MINUTE):
        schedule = again(schedule)
        schedule.enabled = True
        schedule.save()
    assert schedule.next_run == NOON + 6 * HOUR
    assert (fire(NOON + 5 * HOUR), fire(NOON + 6 * HOUR)) == (0, 1)


# Changing one.


def test_setting_next_run_moves_the_slots_that_follow():
    schedule = a_schedule()
    schedule.next_run = NOON + HOUR
    schedule.save()
    assert fire(NOON + HOUR) == 1
    assert again(schedule).next_run == NOON + HOUR + DAY


def test_a_cron_line_goes_on_at_its_own_slots_after_a_run_set_by_hand():
    schedule = a_schedule(kind="cron", cron="0 6 * * *")
    schedule.next_run = NOON
    schedule.save()
    assert fire(NOON) == 1
    assert (slots(schedule), again(schedule).next_run) == ([NOON], at("2026-01-02T06:00"))


def test_another_cron_line_begins_at_its_own_next_slot():
    schedule = a_schedule(kind="cron", cron="0 6 * * *")
    schedule.cron = "0 18 * * *"
    schedule.save()
    assert again(schedule).next_run == at("2026-01-01T18:00")


def test_a_slot_that_was_fired_does_not_fire_again_when_next_run_is_set_back():
    schedule = a_schedule(kind="hourly")
    assert fire(NOON + HOUR) == 2
    schedule = again(schedule)
    schedule.next_run = NOON
    schedule.save()
    assert fire(NOON + 2 * HOUR) == 1
    assert slots(schedule) == [NOON + n * HOUR for n in range(3)]


def test_saving_writes_what_was_changed_and_leaves_what_workers_wrote_meanwhile():
    schedule = a_schedule(kind="hourly", repeats=5)
    fire(NOON)
    schedule.name = "new"
    schedule.save()
    schedule = again(schedule)
    assert (schedule.name, schedule.repeats, schedule.next_run) == ("new", 4, NOON + HOUR)
    schedule.workspace["n"] = 1
    schedule.save()
    assert again(schedule).workspace == {"n": 1}


# What is refused.


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"path": "nothin"}, UnknownJob, "Did you mean 'nothing'"),
        ({"kind": "cron", "cron": "0 25 * * *"}, ScheduleError, "column 3: '25' is no hour"),
        ({"kind": "cron"}, ScheduleError, "has 0 fields"),
        ({"kind": "minutes"}, ScheduleError, "minutes must be from 1"),
        ({"kind": "fortnightly"}, ScheduleError, "'fortnightly' is no kind of schedule: once, minutes"),
        ({"time_zone": "Europe/Rom"}, ScheduleError, "no time zone 'Europe/Rom'"),
        ({"workspace": {"a": float("nan")}}, WorkspaceError, r"workspace\[.a.\]"),
        ({"path": "no.such.function", "call": "{}"}, CallError, "does not import"),
    ],
)
def test_what_could_not_be_fired_is_refused_when_it_is_saved(fields, error, message):
    with pytest.raises(error, match=f"(?i){message}"):
        a_schedule(**fields)
    good = a_schedule()
    for name, value in fields.items():
        setattr(good, name, value)
    with pytest.raises(ValidationError, match=f"(?i){message}"):
        good.clean()
    with pytest.raises(error):
        good.save()
    assert (Schedule.objects.count(), again(good).path, again(good).kind) == (1, "nothing", "daily")


@pytest.mark.parametrize("year", [1, 9999])
def test_a_first_time_out_of_reach_is_refused(year):
    far = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
    with pytest.raises(ScheduleError, match="from the year 1900 to 9000"):
        a_schedule(next_run=far, time_zone="America/New_York")
    schedule = a_schedule()
    schedule.next_run = far
    with pytest.raises(ValidationError, match="from the year 1900 to 9000"):
        schedule.full_clean()
    with pytest.raises(ScheduleError, match="from the year 1900 to 9000"):
        schedule.save()


def test_a_workspace_may_hold_what_a_job_s_may():
    schedule = a_schedule(workspace={"day": NOON.date(), "n": 1})
    assert schedule.workspace == again(schedule).workspace == {"day": "2026-01-01", "n": 1}
    schedule.workspace["day"] = NOON.date() + DAY
    schedule.save()
    assert again(schedule).workspace["day"] == "2026-01-02"


@pytest.mark.parametrize(
    ("fields", "given", "message"),
    [
        ({"kind": "once", "repeats": 5}, {"next_run": NOON + DAY}, "it has run: give next_run"),
        ({"repeats": 1}, {"repeats": 3}, "it has run as often as it should: give repeats"),
    ],
)
def test_one_that_has_no_slot_left_is_enabled_only_with_one(fields, given, message):
    schedule = a_schedule(**fields)
    assert fire(NOON) == 1
    schedule = again(schedule)
    schedule.enabled = True
    with pytest.raises(ValidationError, match=message):
        schedule.clean()
    with pytest.raises(ScheduleError, match=message):
        schedule.save()
    for name, value in given.items():
        setattr(schedule, name, value)
    schedule.save()
    assert fire(NOON + DAY) == 1


def test_one_that_cannot_be_fired_any_more_can_still_be_disabled():
    schedule = a_schedule()
    with override_settings(JOBS={}):
        schedule = again(schedule)
        schedule.enabled = False
        schedule.save()
    assert not again(schedule).enabled


def test_what_no_worker_could_call_is_refused():
    with pytest.raises(CallError, match="a lambda"):
        Schedule.of_call(lambda: None)
    with pytest.raises(CallError, match=r"args\[0\]"):
        Schedule.of_call(FUNCTION, [object()])


def test_arguments_that_its_function_does_not_take_are_refused():
    for args, kwargs, fields in (
        ([], {}, {}),
        ([1, 2], {}, {}),
        ([1], {"ndigits": 2}, {}),
        ([1], {}, {"date_keyword": "day"}),
    ):
        with pytest.raises(CallError, match=r"math.floor.* does not take these arguments"):
            Schedule.of_call("math.floor", args, kwargs, **fields)
    schedule = Schedule.of_call("math.floor", [1.5], kind="hourly")
    schedule.save()
    schedule.date_keyword = "day"
    with pytest.raises(CallError, match=r"math.floor.* does not take these arguments"):
        schedule.save()
    assert fire(NOON) == 1


# The signature.

CHANGES = {
    "path": {"path": f"{MARKED}.another"},
    "arguments": {"call": '{"args": [2], "kwargs": {}, "options": {}}'},
    "no JSON": {"call": "{"},
    "queue": {"queue_name": "other"},
    "date_keyword": {"date_keyword": "day"},
    "signature": {"signature": "x"},
    "no signature": {"signature": None},
}


def failed(now):
    (schedule,) = get_store("default").fire(now).failed
    return schedule


@pytest.mark.parametrize("what", CHANGES)
def test_a_row_that_was_changed_does_not_fire_and_nothing_of_it_is_imported(what):
    schedule = Schedule.of_call(FUNCTION, [1], kind="hourly")
    schedule.save()
    Schedule.objects.filter(pk=schedule.pk).update(**CHANGES[what])
    sys.modules.pop(MARKED, None)
    assert "BadSignature: the signature of schedule" in failed(NOON).error
    assert MARKED not in sys.modules and not Job.objects.exists()
    # Nor does saving it sign what somebody has changed.
    schedule = again(schedule)
    schedule.name = "mine"
    schedule.save()
    assert "BadSignature" in failed(NOON + HOUR).error


def test_a_workflow_does_not_become_a_call_nor_a_call_a_workflow():
    workflow = a_schedule()
    Schedule.objects.filter(pk=workflow.pk).update(
        path=FUNCTION, call='{"args": [], "kwargs": {}, "options": {}}'
    )
    assert "BadSignature" in failed(NOON).error
    workflow.delete()
    call = Schedule.of_call(FUNCTION, kind="hourly")
    call.save()
    Schedule.objects.filter(pk=call.pk).update(call=None)
    assert "UnknownJob" in failed(NOON).error
    assert not Job.objects.exists()


def test_a_call_outlives_its_key_if_it_fires_or_is_saved_while_that_is_a_fallback(settings):
    settings.SECRET_KEY = "old"
    fires = Schedule.of_call(FUNCTION, kind="hourly")
    saved = Schedule.of_call(FUNCTION, kind="hourly", next_run=NOON + HOUR)
    rests = Schedule.of_call(FUNCTION, kind="hourly", next_run=NOON + HOUR)
    for schedule in (fires, saved, rests):
        schedule.save()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
    assert fire(NOON) == 1
    again(saved).save()
    settings.SECRET_KEY_FALLBACKS = []
    assert failed(NOON + HOUR).pk == rests.pk
    assert Job.objects.count() == 3


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_slots_are_those_of_the_rule_where_a_project_uses_no_time_zones():
    schedule = a_schedule(kind="daily", next_run=datetime.datetime(2026, 3, 28, 6))
    now = datetime.datetime(2026, 3, 30, 6)
    assert get_store("default").fire(now).jobs == 3
    assert again(schedule).next_run == datetime.datetime(2026, 3, 31, 6)


@pytest.mark.django_db(databases=["default", "jobs"])
def test_a_schedule_moves_on_in_the_database_that_it_stands_in_whatever_the_router_names(settings):
    settings.DATABASE_ROUTERS = ["tests.routers.ReplicaRouter"]
    Schedule(path="nothing", kind="hourly", next_run=NOON).save(using="jobs")
    fired = get_store("jobs").fire(NOON)
    assert (fired.jobs, fired.failed) == (1, [])
    assert Schedule.objects.using("jobs").get().next_run == NOON + HOUR
    assert Job.objects.using("jobs").count() == 1


# Runs of jobs that are deleted.


@pytest.mark.parametrize("delete", [Job.delete, lambda job: Job.objects.filter(pk=job.pk).delete()])
def test_a_run_goes_with_its_job_and_its_slot_does_not_fire_again(delete):
    schedule = a_schedule(kind="hourly", no_overlap=True)
    assert fire(NOON) == 1
    delete(Job.objects.get())
    assert slots(schedule) == []
    assert fire(NOON) == 0
    assert fire(NOON + HOUR) == 1 and slots(schedule) == [NOON + HOUR]
