"""The slots of schedules: where they fall, across month ends and changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import freezegun
import freezegun.api
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dbq.engine.schedule import Kind, Rule, check_cron
from django_dbq.exceptions import ScheduleError

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def at(text, tz="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz))


def local(rule, after, number):
    """The first slots after a time, as the wall clock of the rule's zone shows them."""
    zone = ZoneInfo(rule.time_zone)
    return [f"{slot.astimezone(zone):%m-%d %H:%M}" for slot in islice(rule.slots(after), number)]


def before(rule):
    return rule.anchor - timedelta(seconds=1)


def test_months_end_without_drifting():
    rule = Rule(Kind.MONTHLY, at("2026-01-31T08:00"))
    assert local(rule, before(rule), 5) == [
        "01-31 08:00",
        "02-28 08:00",
        "03-31 08:00",
        "04-30 08:00",
        "05-31 08:00",
    ]


def test_a_leap_day_comes_back_every_fourth_year():
    rule = Rule(Kind.YEARLY, at("2024-02-29T00:00"))
    days = [slot.day for slot in islice(rule.slots(before(rule)), 5)]
    assert days == [29, 28, 28, 28, 29]


@pytest.mark.parametrize(
    ("kind", "second"),
    [
        (Kind.HOURLY, "2026-01-01T01:00"),
        (Kind.DAILY, "2026-01-02T00:00"),
        (Kind.WEEKLY, "2026-01-08T00:00"),
        (Kind.BIWEEKLY, "2026-01-15T00:00"),
        (Kind.MONTHLY, "2026-02-01T00:00"),
        (Kind.BIMONTHLY, "2026-03-01T00:00"),
        (Kind.QUARTERLY, "2026-04-01T00:00"),
        (Kind.YEARLY, "2027-01-01T00:00"),
    ],
)
def test_the_second_slot_is_one_step_after_the_first(kind, second):
    assert Rule(kind, NEW_YEAR).next(NEW_YEAR) == at(second)


def test_once_is_once():
    rule = Rule(Kind.ONCE, NEW_YEAR)
    assert list(rule.slots(before(rule))) == [NEW_YEAR]
    assert rule.next(NEW_YEAR) is None


def test_a_day_keeps_its_hour_when_the_clock_changes():
    rule = Rule(Kind.DAILY, at("2026-03-28T06:00", "Europe/Berlin"), "Europe/Berlin")
    assert local(rule, before(rule), 3) == ["03-28 06:00", "03-29 06:00", "03-30 06:00"]
    first, second, third = islice(rule.slots(before(rule)), 3)
    assert (second - first, third - second) == (timedelta(hours=23), timedelta(hours=24))


def test_an_hour_that_a_spring_day_skips_means_the_one_after():
    rule = Rule(Kind.DAILY, at("2026-03-28T02:30", "Europe/Berlin"), "Europe/Berlin")
    assert local(rule, before(rule), 3) == ["03-28 02:30", "03-29 03:30", "03-30 02:30"]


def test_an_hour_that_an_autumn_day_has_twice_means_the_first():
    rule = Rule(Kind.DAILY, at("2026-10-24T02:30", "Europe/Berlin"), "Europe/Berlin")
    slots = list(islice(rule.slots(before(rule)), 3))
    assert [f"{slot:%d %H:%M}" for slot in slots] == ["24 00:30", "25 00:30", "26 01:30"]


def test_hours_go_by_real_time_when_the_clock_changes():
    rule = Rule(Kind.HOURLY, at("2026-03-29T00:30", "Europe/Berlin"), "Europe/Berlin")
    assert local(rule, before(rule), 4) == ["03-29 00:30", "03-29 01:30", "03-29 03:30", "03-29 04:30"]


def test_a_cron_line_is_read_in_the_zone_of_its_schedule():
    rule = Rule(Kind.CRON, NEW_YEAR, "Europe/Berlin", cron="0 6 * * 1-5")
    assert local(rule, before(rule), 3) == ["01-01 06:00", "01-02 06:00", "01-05 06:00"]


def test_a_cron_line_of_a_skipped_hour_runs_right_after_it():
    rule = Rule(Kind.CRON, NEW_YEAR, "Europe/Berlin", cron="30 2 * * *")
    assert local(rule, at("2026-03-28T12:00"), 2) == ["03-29 03:00", "03-30 02:30"]


def test_a_cron_line_of_a_doubled_hour_runs_once():
    rule = Rule(Kind.CRON, NEW_YEAR, "Europe/Berlin", cron="30 2 * * *")
    assert local(rule, at("2026-10-24T12:00"), 2) == ["10-25 02:30", "10-26 02:30"]


def test_a_cron_line_of_every_hour_runs_in_both_of_a_doubled_hour():
    rule = Rule(Kind.CRON, NEW_YEAR, "Europe/Berlin", cron="0 * * * *")
    assert local(rule, at("2026-10-25T00:00:00"), 3) == ["10-25 02:00", "10-25 03:00", "10-25 04:00"]
    assert local(rule, at("2026-10-24T23:30:00"), 3) == ["10-25 02:00", "10-25 02:00", "10-25 03:00"]


def test_no_slot_of_a_cron_line_is_before_its_anchor_but_the_anchor_may_be_one():
    rule = Rule(Kind.CRON, at("2026-01-01T12:00"), cron="0 */6 * * *")
    assert rule.next(at("2020-01-01T00:00")) == at("2026-01-01T12:00")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 25 * * *", "column 3: '25' is no hour"),
        ("0  25 * * *", "column 4: '25' is no hour"),
        ("61 * * * *", "column 1: '61' is no minute"),
        ("1,61 * * * *", "column 3: '61' is no minute"),
        ("* * * * MON,TUX", "column 13: 'TUX' is no day of week"),
        ("* * 0 * *", "column 5: '0' is no day of month"),
        ("* * * 5-2 *", "column 7: '5-2' is no month"),
        ("* * *", "has 3 fields; five are read"),
        ("0 * * * * *", "has 6 fields; five are read"),
        ("", "has 0 fields"),
        ("0 0 30 2 *", "no such day ever comes"),
        ("@reboot", "has 1 fields"),
    ],
)
def test_a_bad_cron_line_is_refused_with_the_position_of_the_fault(line, message):
    with pytest.raises(ScheduleError) as refused:
        check_cron(line)
    assert message in str(refused.value) and repr(line) in str(refused.value)


def test_nicknames_are_cron_lines():
    assert Rule(Kind.CRON, NEW_YEAR, cron="@daily").next(NEW_YEAR) == at("2026-01-02T00:00")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": Kind.MINUTES, "minutes": 0}, "minutes must be from 1"),
        ({"kind": Kind.DAILY, "time_zone": "Mars/Base"}, "no time zone 'Mars/Base'"),
        ({"kind": Kind.DAILY, "anchor": datetime(2026, 1, 1)}, "needs a time zone"),
        ({"kind": Kind.CRON, "cron": ""}, "has 0 fields"),
    ],
)
def test_a_rule_that_could_never_be_due_is_refused(values, message):
    with pytest.raises(ScheduleError, match=message):
        Rule(**{"anchor": NEW_YEAR, **values})


rules = st.one_of(
    st.builds(
        Rule,
        st.sampled_from([kind for kind in Kind if kind not in (Kind.CRON, Kind.ONCE)]),
        st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
        st.integers(1, 10_000),
    ),
    st.builds(
        lambda cron, zone: Rule(Kind.CRON, NEW_YEAR, zone, cron=cron),
        st.sampled_from(["*/5 * * * *", "30 2 * * *", "0 * * * *", "0 6 * * 1-5", "15 1 31 * *"]),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ),
)


@given(rules, st.datetimes(datetime(2000, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC)))
def test_slots_grow_and_asking_after_one_gives_the_next(rule, after):
    slots = list(islice(rule.slots(after), 6))
    assert len(slots) == 6 and slots[0] > after
    assert all(one < two for one, two in pairwise(slots))
    for one, two in pairwise(slots):
        assert rule.next(one) == two


@given(rules, st.datetimes(datetime(2026, 3, 28), datetime(2026, 11, 5), timezones=st.just(UTC)), st.data())
def test_slots_do_not_depend_on_where_one_begins_to_look(rule, after, data):
    slots = list(islice(rule.slots(after), 6))
    between = data.draw(st.datetimes(after.replace(tzinfo=None), slots[-1].replace(tzinfo=None)))
    between = between.replace(tzinfo=UTC)
    later = [slot for slot in slots if slot > between]
    assert list(islice(rule.slots(between), len(later))) == later
    earlier = [slot for slot in slots if slot <= between]
    assert rule.last(after, between) == (earlier[-1] if earlier else None)


def test_a_frozen_clock_does_not_make_an_hour_that_comes_twice_endless():
    with freezegun.freeze_time("2026-10-25"):
        anchor = freezegun.api.FakeDatetime(2026, 10, 25, tzinfo=UTC)
        rule = Rule(Kind.CRON, anchor, "Europe/Berlin", cron="30 * * * *")
        assert [slot.hour for slot in islice(rule.slots(before(rule)), 4)] == [0, 1, 2, 3]
