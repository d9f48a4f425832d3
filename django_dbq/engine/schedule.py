"""When a schedule is due: from a rule to its slots. Standard library and cronsim; no clock."""

from __future__ import annotations

import calendar
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from django_dbq.exceptions import ScheduleError

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEARS = range(1900, 9001)  # Of first slots: there are zones, and slots, on both sides of them.
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Kind(enum.StrEnum):
    """How the slots of a schedule follow each other."""

    ONCE = "once"
    MINUTES = "minutes"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    BIWEEKLY = "biweekly"
    MONTHLY = "monthly"
    BIMONTHLY = "bimonthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"
    CRON = "cron"


DAYS = {Kind.DAILY: 1, Kind.WEEKLY: 7, Kind.BIWEEKLY: 14}
MONTHS = {Kind.MONTHLY: 1, Kind.BIMONTHLY: 2, Kind.QUARTERLY: 3, Kind.YEARLY: 12}


@dataclass(frozen=True, slots=True)
class Rule:
    """When a schedule is due. Raises ScheduleError when it cannot be.

    `anchor` is the first slot, from which the others are counted: minutes and hours in
    real time; days, weeks and months by the wall clock of `time_zone`, so that months
    end without drifting (31 January, 28 February, 31 March). A cron line is read in
    `time_zone` too, and its slots begin at the anchor.
    """

    kind: Kind
    anchor: datetime
    time_zone: str = "UTC"
    minutes: int = 0
    cron: str = ""

    def __post_init__(self) -> None:
        if self.anchor.tzinfo is None:
            raise ScheduleError(f"the first time of a schedule needs a time zone, unlike {self.anchor}")
        check_first(self.anchor)
        zone(self.time_zone)
        if self.kind is Kind.MINUTES and not 1 <= self.minutes <= 5_256_000:
            raise ScheduleError(f"minutes must be from 1 to 5,256,000 (ten years), not {self.minutes}")
        if self.kind is Kind.CRON:
            check_cron(self.cron)

    def slots(self, after: datetime) -> Iterator[datetime]:
        """Yield the slots later than `after`, in order, in UTC; without end for most rules."""
        if self.kind is Kind.ONCE:
            if self.anchor > after:
                yield self.anchor.astimezone(UTC)
        elif self.kind is Kind.CRON:
            yield from self._cron_slots(after)
        else:
            # Counted from the anchor, never from the slot before: so nothing drifts.
            for number in count(self._number_before(after)):
                slot = self._slot(number)
                if slot > after:
                    yield slot

    def next(self, after: datetime) -> datetime | None:
        """Return the first slot later than `after`, or None when there is none."""
        return next(self.slots(after), None)

    def last(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot later than `after` and not later than `until`, or None.

        It looks back from `until`, further and further: what lies long ago costs nothing.
        """
        back = timedelta(minutes=2)
        while True:
            begin = max(after, until - back) if until - after > back else after
            found = None
            for slot in self.slots(begin):
                if slot > until:
                    break
                found = slot
            if found is not None or begin == after:
                return found
            back *= 4

    def __str__(self) -> str:
        """Say it in words, by the clock of its time zone."""
        first = local(self.anchor, self.time_zone)
        clock = f"{first:%H:%M:%S}" if first.second else f"{first:%H:%M}"
        if self.kind is Kind.ONCE:
            return f"once, {first:%Y-%m-%d} at {clock}"
        if self.kind is Kind.CRON:
            return f"cron {self.cron}"
        if self.kind is Kind.MINUTES:
            return "every minute" if self.minutes == 1 else f"every {self.minutes:,} minutes"
        if self.kind is Kind.HOURLY:
            return f"every hour at minute {first.minute}"
        if self.kind is Kind.DAILY:
            return f"every day at {clock}"
        if self.kind in DAYS:
            other = "other " if self.kind is Kind.BIWEEKLY else ""
            return f"every {other}{calendar.day_name[first.weekday()]} at {clock}"
        if self.kind is Kind.YEARLY:
            return f"every year on {first.day} {calendar.month_name[first.month]} at {clock}"
        months = MONTHS[self.kind]
        every = "every month" if months == 1 else f"every {months} months"
        clamped = ", or the last" if first.day > 28 else ""
        return f"{every} on day {first.day}{clamped}, at {clock}"

    def _cron_slots(self, after: datetime) -> Iterator[datetime]:
        # The anchor itself may be a slot; cronsim begins a second later than told.
        begin = max(after, self.anchor - timedelta(seconds=1))
        for slot in CronSim(expanded(self.cron), local(begin, self.time_zone)):
            slot = slot.astimezone(UTC)
            if slot > after:  # In an hour that comes twice, cronsim may look back.
                yield slot

    def _number_before(self, after: datetime) -> int:
        """Return the number of a slot that is surely not later than the first one after `after`."""
        if after < self.anchor:
            return 0
        passed = after - self.anchor
        if self.kind in MONTHS:
            return max(0, passed.days // (31 * MONTHS[self.kind]) - 1)
        step = timedelta(days=DAYS[self.kind]) if self.kind in DAYS else self._interval()
        return max(0, passed // step - 1)

    def _interval(self) -> timedelta:
        return timedelta(minutes=60 if self.kind is Kind.HOURLY else self.minutes)

    def _slot(self, number: int) -> datetime:
        if self.kind in (Kind.MINUTES, Kind.HOURLY):
            return self.anchor.astimezone(UTC) + number * self._interval()
        first = local(self.anchor, self.time_zone)
        if self.kind in DAYS:
            moved = first.replace(tzinfo=None) + number * timedelta(days=DAYS[self.kind])
        else:
            year, month = divmod(first.year * 12 + first.month - 1 + number * MONTHS[self.kind], 12)
            day = min(first.day, calendar.monthrange(year, month + 1)[1])
            moved = first.replace(tzinfo=None, year=year, month=month + 1, day=day)
        # A wall-clock time that a spring day skips means the one as much later; one that an
        # autumn day has twice means the first.
        return moved.replace(tzinfo=first.tzinfo, fold=0).astimezone(UTC)


def local(moment: datetime, time_zone: str) -> datetime:
    """Return a time as the clock of a time zone shows it."""
    # As a plain datetime: that of freezegun forgets which of two equal hours it is.
    return (EPOCH + (moment - EPOCH)).astimezone(zone(time_zone))


def zone(name: str) -> ZoneInfo:
    """Return the time zone called `name`. Raises ScheduleError when there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise ScheduleError(f"there is no time zone {name!r}; give a name such as 'Europe/Rome'") from None


def check_first(slot: datetime) -> None:
    """Raise ScheduleError for a first slot out of reach."""
    if slot.year not in YEARS:
        raise ScheduleError(f"a schedule begins from the year {YEARS[0]} to {YEARS[-1]}, not at {slot}")


def expanded(line: str) -> str:
    """Return a cron line, one of the nicknames written out."""
    return NICKNAMES.get(line.strip().lower(), line)


def check_cron(line: str) -> None:
    """Raise ScheduleError, naming the position of the fault, for a cron line that cannot be read."""
    if not isinstance(line, str):
        raise ScheduleError(f"a cron line is text such as '0 6 * * 1-5', not {line!r}")
    parts = expanded(line).split()
    if len(parts) != len(FIELDS):
        raise ScheduleError(
            f"cron line {line!r}: has {len(parts)} fields; five are read: {', '.join(FIELDS)}"
        )
    moment = datetime(2000, 1, 1, tzinfo=UTC)
    column = 0
    for index, part in enumerate(parts):
        column = line.find(part, column)
        offset = 0
        for term in part.split(","):
            others = ["*"] * len(FIELDS)
            others[index] = term
            try:
                CronSim(" ".join(others), moment)
            except CronSimError:
                at = column + offset + 1
                raise ScheduleError(
                    f"cron line {line!r}: column {at}: {term!r} is no {FIELDS[index]}"
                ) from None
            offset += len(term) + 1
        column += len(part)
    try:
        if next(CronSim(" ".join(parts), moment), None) is None:
            raise CronSimError
    except CronSimError:
        raise ScheduleError(f"cron line {line!r}: no such day ever comes") from None
