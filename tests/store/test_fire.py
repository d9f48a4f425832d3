import datetime
import random
from itertools import takewhile

import freezegun
import pytest
from django.db import connection, connections, transaction
from django.db.utils import IntegrityError, InterfaceError, OperationalError
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_dbq import conf
from django_dbq.exceptions import ScheduleError
from django_dbq.models import Job, Schedule, ScheduleRun
from django_dbq.store import get_store, schedules
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.upkeep import Upkeep
from tests.databases import connected
from tests.store.helpers import ALIASES, NOW, SERVERS, clock, seconds, together

pytestmark = pytest.mark.django_db(databases=ALIASES)

HOUR = datetime.timedelta(hours=1)


def a_schedule(store, **fields):
    schedule = Schedule(**{"path": "nothing", "kind": "hourly", "next_run": NOW, **fields})
    schedule.save(using=store.using)
    return schedule


def again(store, schedule):
    return Schedule.objects.using(store.using).get(pk=schedule.pk)


def change(store, schedule, **columns):
    assert Schedule.objects.using(store.using).filter(pk=schedule.pk).update(**columns) == 1


def jobs(store):
    return Job.objects.using(store.using).order_by("created", "id")


def slots(store, schedule):
    runs = ScheduleRun.objects.using(store.using).filter(schedule=schedule).order_by("slot")
    return list(runs.values_list("slot", flat=True))


# What is due.


def test_the_job_of_a_slot_that_has_come_is_created_and_can_be_claimed(store):
    schedule = a_schedule(store)
    assert store.fire(NOW).jobs == 1
    (job,) = store.claim(["default"], worker="one", limit=9, lease_seconds=30)
    run = ScheduleRun.objects.using(store.using).get()
    assert (run.schedule_id, run.slot, run.job_id, job.name) == (schedule.pk, NOW, job.id, "nothing")
    assert again(store, schedule).next_run == NOW + HOUR
    assert store.fire(NOW).jobs == 0


def test_a_slot_that_is_ahead_waits(store):
    a_schedule(store)
    assert store.fire(NOW - seconds(1)) == schedules.Fired()
    assert not jobs(store).exists()


def test_time_is_the_clock_of_the_database(store):
    past = a_schedule(store, kind="once", repeats=1, next_run=clock(store) - seconds(1))
    ahead = a_schedule(store, kind="once", repeats=1, next_run=clock(store) + seconds(60))
    assert store.fire().jobs == 1
    assert (again(store, past).enabled, again(store, ahead).enabled) == (False, True)


def test_what_is_disabled_or_has_no_slot_left_does_not_fire(store):
    change(store, a_schedule(store), enabled=False)
    change(store, a_schedule(store), next_run=None)
    assert store.fire(NOW).jobs == 0


def test_a_pass_is_bounded_and_says_that_there_is_more(store, monkeypatch):
    monkeypatch.setattr(schedules, "FIRE_BATCH", 3)
    for _ in range(7):
        a_schedule(store)
    passes = [store.fire(NOW) for _ in range(4)]
    assert [(fired.jobs, fired.more) for fired in passes] == [(3, True), (3, True), (1, False), (0, False)]


def test_with_nothing_due_it_is_one_statement(store, django_assert_num_queries):
    a_schedule(store, next_run=clock(store) + seconds(60))
    number = 2 if connections[store.using].vendor == "mysql" else 1
    with django_assert_num_queries(number, connection=connections[store.using]):
        assert store.fire().jobs == 0


@pytest.mark.postgresql
@pytest.mark.parametrize("store", ["default"], indirect=True)
def test_that_statement_uses_the_index(store):
    with CaptureQueriesContext(connection) as ran:
        store.fire()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {ran[0]['sql']}")
        plan = "\n".join(row for (row,) in cursor.fetchall())
    assert "dbq_schedule_due" in plan and "Index Cond: (next_run <=" in plan


# What takes long.


CLOCK = []


def take_a_second(job):
    CLOCK[0].tick(1)


@pytest.fixture
def slow(settings):
    """The name of a workflow whose jobs take a second each to create, by a clock that stands still."""
    entry = {"tasks": ["tests.workflows.nothing"], "creation_hook": f"{__name__}.take_a_second"}
    settings.JOBS = {**conf_jobs(), "slow_to_create": entry}
    with freezegun.freeze_time(NOW) as clock:
        CLOCK[:] = [clock]
        yield "slow_to_create"


def test_a_pass_ends_after_its_time_and_the_next_goes_on_at_the_slot_where_it_ended(store, slow):
    schedule = a_schedule(store, path=slow)
    now = NOW + 9 * HOUR
    passes = []
    while (fired := store.fire(now, seconds=4)).more:
        passes.append((fired.jobs, again(store, schedule).next_run))
    assert passes == [(4, NOW + 4 * HOUR), (4, NOW + 8 * HOUR)] and fired.jobs == 2
    assert slots(store, schedule) == [NOW + n * HOUR for n in range(10)]


def test_a_pass_with_no_time_at_all_fires_one_slot(store, slow):
    schedule, other = (a_schedule(store, path=slow, next_run=NOW + seconds(n)) for n in range(2))
    fired = store.fire(NOW + HOUR, seconds=0)
    assert (fired.jobs, fired.more) == (1, True)
    assert (slots(store, schedule), slots(store, other)) == ([NOW], [])


def test_one_that_has_much_to_catch_up_leaves_the_others_their_time(store, slow):
    a_schedule(store, path=slow, next_run=NOW - 99 * HOUR)
    others = [a_schedule(store) for _ in range(3)]
    assert store.fire(NOW, seconds=8).more
    assert [slots(store, other) for other in others] == [[NOW]] * 3


def test_a_slot_passed_over_is_not_taken_up_again_for_want_of_time(store, slow):
    schedule = a_schedule(store, path=slow, no_overlap=True)
    fired = store.fire(NOW + 2 * HOUR, seconds=0)
    assert (fired.jobs, fired.more) == (1, False)
    assert again(store, schedule).next_run == NOW + 3 * HOUR


# Without USE_TZ: rows hold what the clock shows, which twice a year is not enough to know the time.


def clock_shows(day, *times):
    return [datetime.datetime.fromisoformat(f"{day} {time}") for time in times]


without_zones = override_settings(USE_TZ=False, TIME_ZONE="Europe/Rome")


@without_zones
def test_an_hour_that_the_clock_shows_twice_is_fired_once_and_nobody_looks_for_more(store):
    one, two, three, four = clock_shows("2026-10-25", "01:00", "02:00", "03:00", "04:00")
    schedule = a_schedule(store, next_run=one)
    passes = [store.fire(now) for now in (one, two, two, three)]
    assert [(fired.jobs, fired.more) for fired in passes] == [(1, False), (1, False), (0, False), (1, False)]
    assert slots(store, schedule) == [one, two, three] and again(store, schedule).next_run == four


@without_zones
@pytest.mark.parametrize(
    "rule", [{"kind": "minutes", "minutes": 30}, {"kind": "cron", "cron": "*/30 * * * *"}]
)
def test_an_hour_that_the_clock_shows_twice_is_caught_up_once(store, rule):
    expected = clock_shows("2026-10-25", "01:30", "02:00", "02:30", "03:00", "03:30")
    schedule = a_schedule(store, next_run=expected[0], **rule)
    assert [slot.replace(tzinfo=None) for slot in schedule.upcoming(5)] == expected
    fired = store.fire(expected[-1])
    assert (fired.jobs, fired.failed) == (5, []) and slots(store, schedule) == expected


# What cannot be fired.


def broken(store, **fields):
    """A schedule whose workflow has gone."""
    schedule = a_schedule(store, **fields)
    change(store, schedule, path="gone")
    return schedule


def test_an_error_is_noted_and_the_others_go_on(store):
    schedule, good = broken(store, next_run=NOW - HOUR), a_schedule(store)
    fired = store.fire(NOW)
    assert fired.jobs == 1 and [failed.pk for failed in fired.failed] == [schedule.pk]
    schedule = again(store, schedule)
    assert (schedule.failures, schedule.enabled, schedule.next_run) == (1, True, NOW - HOUR)
    assert schedule.error.startswith("UnknownJob: JOBS has no job named 'gone'")
    assert schedule.next_try == NOW + seconds(60)
    assert slots(store, good) == [NOW] and slots(store, schedule) == []


def test_it_is_tried_again_ever_later_and_disabled_after_five_failures_with_the_reason(store):
    schedule = broken(store)
    tried, now = [], NOW
    while again(store, schedule).enabled:
        if store.fire(now).failed:
            tried.append((now - NOW).total_seconds())
        now += seconds(10)
    assert tried == [0, 60, 180, 360, 600]
    schedule = again(store, schedule)
    assert (schedule.failures, schedule.next_try) == (5, None)
    assert schedule.error.startswith("disabled after 5 failures: UnknownJob: ")
    assert store.fire(now + 24 * HOUR) == schedules.Fired()


def test_one_that_fires_again_has_no_failures(store):
    schedule = broken(store)
    store.fire(NOW)
    change(store, schedule, path="nothing")
    assert store.fire(NOW + seconds(60)).jobs == 1
    schedule = again(store, schedule)
    assert (schedule.failures, schedule.error, schedule.next_try) == (0, None, None)
    assert slots(store, schedule) == [NOW]


def fail_halfway(job):
    Job.objects.using(HOOK["using"]).create(name="five")
    raise HOOK["error"]


HOOK = {}


@pytest.mark.parametrize(
    "error", [ValueError("uh oh"), SystemExit(3), IntegrityError("no"), OperationalError("elsewhere")]
)
def test_what_a_creation_hook_raises_leaves_nothing_behind(store, error):
    HOOK.update(using=store.using, error=error)
    entry = {"tasks": ["tests.workflows.nothing"], "creation_hook": f"{__name__}.fail_halfway"}
    with override_settings(JOBS={**conf_jobs(), "hooked": entry}):
        schedule = a_schedule(store, path="hooked")
        (failed,) = store.fire(NOW).failed
    assert failed.error == f"{type(error).__name__}: {error}"
    assert not jobs(store).exists() and slots(store, schedule) == []


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("store", ["default"], indirect=True)
def test_a_failure_that_was_noted_is_logged_though_the_connection_is_lost_then(store, caplog):
    first = broken(store, next_run=clock(store) - HOUR)
    other = a_schedule(store, next_run=clock(store) - seconds(1))
    statements = []

    def lose(execute, sql, params, many, context):
        if sql.startswith("SELECT") and "FOR UPDATE" in sql:
            statements.append(sql)
            if len(statements) == 3:  # Of the first, of the note of its failure, of the other.
                terminate(context["connection"].connection.info.backend_pid)
        return execute(sql, params, many, context)

    upkeep = Upkeep(store, "one", WorkerSettings(using=store.using))
    with connection.execute_wrapper(lose), pytest.raises((OperationalError, InterfaceError)):
        upkeep._fire()
    assert f"Schedule failed: schedule={first.pk} " in caplog.text
    connection.close()
    assert store.fire().jobs == 1 and again(store, other).failures == 0


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", [alias for alias in ALIASES if connections[alias].vendor == "sqlite"])
def test_a_reader_that_keeps_sqlite_from_committing_is_no_failure_of_the_schedule(store):
    store = get_store(store)
    schedule = a_schedule(store)
    mine, locks = connections[store.using], []
    with connected(store.using) as other, other.cursor() as reader, mine.cursor() as cursor:

        def go_before_anything_else(execute, sql, params, many, context):
            locks.append(sql.endswith("WHERE 0"))  # What takes the lock to write.
            if locks[-1] and sum(locks) == 2:
                reader.execute("ROLLBACK")
            return execute(sql, params, many, context)

        cursor.execute("PRAGMA busy_timeout = 50")
        reader.execute("BEGIN")
        reader.execute("SELECT id FROM django_dbq_schedule")
        reader.fetchall()
        with (
            mine.execute_wrapper(go_before_anything_else),
            pytest.raises(OperationalError, match="locked"),
        ):
            store.fire(NOW)
        reader.execute("ROLLBACK")
        cursor.execute("PRAGMA busy_timeout = 30000")
    assert again(store, schedule).failures == 0
    assert store.fire(NOW).jobs == 1


def conf_jobs():
    from tests.workflows import JOBS

    return JOBS


@pytest.mark.parametrize("columns", [{"cron": "x"}, {"time_zone": "Mars/Base"}, {"kind": "never"}])
def test_a_rule_that_somebody_has_broken_is_a_failure_of_that_schedule_alone(store, columns):
    schedule = a_schedule(store, kind="cron", cron="0 * * * *")
    change(store, schedule, **columns)
    good = a_schedule(store)
    fired = store.fire(NOW + HOUR)
    assert len(fired.failed) == 1 and "ScheduleError" in fired.failed[0].error
    assert len(slots(store, good)) == 2


def test_a_slot_fires_once_whatever_the_code_does_the_database_holds_that(store):
    schedule = a_schedule(store)
    store.fire(NOW)
    with pytest.raises(IntegrityError), transaction.atomic(using=store.using):
        ScheduleRun.objects.using(store.using).create(schedule=schedule, slot=NOW, job=None)


# Declared in JOBS.


def declare(store, now=NOW, **schedules):
    """Declare as a worker with these entries does; each is what stands under "schedule"."""
    entries = {name: {"tasks": ["tests.workflows.nothing"]} for name in ("a", "b")}
    for name, value in schedules.items():
        entries[name]["schedule"] = value
    with override_settings(JOBS=entries):
        store.declare(conf.workflows().values(), now)
    return {row.declared: row for row in Schedule.objects.using(store.using).all()}


def test_an_entry_becomes_a_row_that_begins_at_its_next_slot(store):
    rows = declare(store, a="0 6 * * 1-5")
    row = rows.pop("a")
    assert not rows
    assert (row.name, row.path, row.kind, row.cron) == ("a", "a", "cron", "0 6 * * 1-5")
    assert (row.catch_up, row.no_overlap, row.enabled, row.repeats) == (False, False, True, -1)
    assert row.next_run == datetime.datetime(2031, 5, 7, 6, tzinfo=datetime.UTC)


def test_an_entry_may_say_more(store):
    given = {
        "cron": "0 6 * * *",
        "time_zone": "Asia/Tokyo",
        "catch_up": True,
        "no_overlap": True,
        "date_keyword": "day",
        "workspace": {"n": 1},
    }
    row = declare(store, a=given)["a"]
    assert {key: getattr(row, key) for key in given} == given
    assert row.next_run == datetime.datetime(2031, 5, 6, 21, tzinfo=datetime.UTC)


def test_declaring_again_changes_nothing(store):
    first = declare(store, a="0 6 * * *", b="0 7 * * *")
    again = declare(store, now=NOW + 99 * HOUR, a="0 6 * * *", b="0 7 * * *")
    assert {name: row.__dict__ | {"_state": 0} for name, row in first.items()} == {
        name: row.__dict__ | {"_state": 0} for name, row in again.items()
    }


def test_an_entry_that_changes_changes_its_row_which_goes_on_at_its_next_slot(store):
    first = declare(store, a="0 6 * * *")["a"]
    row = declare(store, a={"cron": "30 * * * *", "workspace": {"n": 2}})["a"]
    assert (row.pk, row.cron, row.workspace) == (first.pk, "30 * * * *", {"n": 2})
    assert row.next_run.minute == 30


def test_a_row_whose_entry_has_gone_is_disabled_and_enabled_when_it_is_back(store):
    first = declare(store, a="0 6 * * *", b="0 6 * * *")["a"]
    rows = declare(store, b="0 6 * * *")
    assert (rows["a"].enabled, rows["a"].error) == (False, schedules.GONE)
    assert rows["b"].enabled
    back = declare(store, a="0 6 * * *", b="0 6 * * *")["a"]
    assert (back.pk, back.enabled, back.error) == (first.pk, True, None)


def test_what_a_person_disabled_stays_so_whatever_becomes_of_its_entry(store):
    row = declare(store, a="0 6 * * *")["a"]
    row.enabled = False
    row.save()
    for entries in ({"a": "0 6 * * *"}, {"a": "0 7 * * *"}, {}, {"a": "0 6 * * *"}):
        assert declare(store, **entries)["a"].enabled is False


def test_a_row_that_cannot_be_declared_is_told_and_keeps_no_other_from_it(store):
    row = declare(store, a="0 6 * * *")["a"]
    declare(store)
    row = again(store, row)
    row.repeats = 0
    row.save()
    for _ in range(2):
        with override_settings(JOBS={"a": entry("0 7 * * *"), "b": entry("0 7 * * *")}):
            [(name, error)] = store.declare(conf.workflows().values(), NOW)
        assert name == "a" and isinstance(error, ScheduleError)
        rows = {row.declared: row for row in Schedule.objects.using(store.using).all()}
        assert (rows["a"].enabled, rows["a"].cron, rows["b"].enabled) == (False, "0 6 * * *", True)
    change(store, row, repeats=-1)
    assert declare(store, a="0 7 * * *")["a"].enabled


def entry(cron):
    return {"tasks": ["tests.workflows.nothing"], "schedule": cron}


def test_a_row_that_is_deleted_while_it_is_declared_is_made_anew(store, monkeypatch):
    first = declare(store, a="0 6 * * *")["a"]
    begin = store.write

    def write():
        monkeypatch.undo()
        Schedule.objects.using(store.using).all().delete()
        return begin()

    monkeypatch.setattr(store, "write", write)
    row = declare(store, a="0 7 * * *")["a"]
    assert row.pk != first.pk and row.cron == "0 7 * * *"


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_database_that_goes_away_is_no_fault_of_a_row(store):
    with override_settings(JOBS={"a": entry("0 6 * * *"), "b": entry("0 6 * * *")}):
        entries = list(conf.workflows().values())

        def lose(execute, sql, params, many, context):
            if sql.startswith("INSERT"):
                raise OperationalError("lost")
            return execute(sql, params, many, context)

        with connections[store.using].execute_wrapper(lose), pytest.raises(OperationalError):
            store.declare(entries)
        assert store.declare(entries) == []


def test_schedules_that_nobody_declared_are_left_alone(store):
    mine = a_schedule(store, name="a")
    declare(store, a="0 6 * * *")
    declare(store)
    assert again(store, mine).enabled


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_two_workers_that_declare_at_once_make_one_row(store):
    with override_settings(JOBS={"a": {"tasks": ["tests.workflows.nothing"], "schedule": "0 6 * * *"}}):
        entries = list(conf.workflows().values())
        together(4, lambda _: store.declare(entries))
    assert Schedule.objects.using(store.using).count() == 1


# Beside others.


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_schedule_that_another_holds_locked_keeps_no_one_waiting(store):
    held, free = a_schedule(store), a_schedule(store)
    with transaction.atomic(using=store.using):
        Schedule.objects.using(store.using).select_for_update().get(pk=held.pk)
        (fired,) = together(1, lambda _: store.fire(NOW))
    assert (fired.jobs, fired.failed) == (1, [])
    assert (slots(store, held), slots(store, free)) == ([], [NOW])
    assert store.fire(NOW).jobs == 1


# A week of twenty schedules.

WEEK = 7 * 24
BEGIN = datetime.datetime(2026, 10, 22, tzinfo=datetime.UTC)  # Clocks change on its fourth day.
TWENTY = [
    *({"kind": "minutes", "minutes": minutes} for minutes in (11, 25, 45, 90, 360, 1000)),
    *({"kind": "hourly", "next_run": BEGIN + seconds(1234 * n)} for n in range(3)),
    {"kind": "daily", "time_zone": "Europe/Berlin", "next_run": BEGIN + 0.5 * HOUR},
    {"kind": "daily", "time_zone": "America/New_York", "next_run": BEGIN + 6 * HOUR},
    {"kind": "weekly", "next_run": BEGIN + HOUR},
    {"kind": "monthly", "next_run": BEGIN + 8 * HOUR},
    {"kind": "once", "repeats": 1, "next_run": BEGIN + 80 * HOUR},
    {"kind": "hourly", "repeats": 30},
    {"kind": "cron", "cron": "*/20 * * * *"},
    {"kind": "cron", "cron": "30 2 * * *", "time_zone": "Europe/Berlin"},
    {"kind": "cron", "cron": "30 * * * *", "time_zone": "Europe/Berlin"},
    {"kind": "cron", "cron": "0 6 * * 1-5", "time_zone": "Asia/Kolkata"},
    {"kind": "cron", "cron": "15 1,13 * * 0", "time_zone": "Australia/Lord_Howe"},
]


def twenty(store):
    fields = [{"next_run": BEGIN, **given} for given in TWENTY]
    schedules = [a_schedule(store, name=str(number), **given) for number, given in enumerate(fields)]
    assert len(schedules) == 20
    return schedules


def due(schedule, until):
    """The slots that the rule says of itself."""
    just_before = schedule.next_run - datetime.timedelta(microseconds=1)
    found = list(takewhile(lambda slot: slot <= until, schedule.rule().slots(just_before)))
    return found if schedule.repeats < 0 else found[: schedule.repeats]


def assert_each_slot_once(store, schedules, until):
    for schedule in schedules:
        expected = due(schedule, until)
        assert expected and slots(store, schedule) == expected, schedule.__dict__
        assert again(store, schedule).error is None
    runs = ScheduleRun.objects.using(store.using)
    made = set(runs.values_list("job_id", flat=True))
    assert len(made) == runs.count() == jobs(store).count()
    assert made == set(jobs(store).values_list("id", flat=True))


class Killed(BaseException):
    """What the death of a worker looks like from within."""


def worker(store, now, killed):
    """Fire until nothing is due, as a worker's upkeep does; one that is killed is cut off at a statement."""
    try:
        if killed:
            with connections[store.using].execute_wrapper(killed):
                while store.fire(now).more:
                    pass
        else:
            while store.fire(now).more:
                pass
    except (Killed, OperationalError, InterfaceError):
        assert killed
        return True
    finally:
        connections[store.using].close()
    return False


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_three_workers_fire_each_slot_of_a_week_once_though_one_is_killed_each_hour():
    store = get_store("default")
    schedules = twenty(store)
    dice = random.Random(5)
    deaths = []

    def kill_at(number):
        """Terminate the worker's session at its n-th statement, which may be any: the commit comes after."""
        left = [number]

        def wrapper(execute, sql, params, many, context):
            left[0] -= 1
            if left[0] == 0:
                pid = context["connection"].connection.info.backend_pid
                deaths.append((sql.split()[0], pid))
                terminate(pid)
                if dice.random() < 0.5:
                    raise Killed  # With its connection; or its connection alone, which it finds lost.
            return execute(sql, params, many, context)

        return wrapper

    for hour in range(WEEK + 1):
        now = BEGIN + hour * HOUR
        victim = dice.randrange(3)
        at = dice.randint(1, 12)
        together(3, lambda n: worker(store, now, kill_at(at) if n == victim else None))  # noqa: B023
    together(1, lambda _: worker(store, now, None))
    assert_each_slot_once(store, schedules, now)
    # They died before, between and after the statements of a slot, and not too seldom.
    assert len(deaths) > WEEK / 2 and {"SELECT", "INSERT", "UPDATE"} <= {verb for verb, _ in deaths}


def terminate(pid):
    with connections.create_connection("default").cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        cursor.connection.close()


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", [alias for alias in ALIASES if alias != "default"], indirect=True)
def test_three_workers_fire_each_slot_of_a_week_once(store):
    schedules = twenty(store)
    for hour in range(0, WEEK + 1, 6):
        now = BEGIN + hour * HOUR
        together(3, lambda _: worker(store, now, None))  # noqa: B023
    assert_each_slot_once(store, schedules, now)
