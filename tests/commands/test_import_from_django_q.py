"""manage.py import_jobs --from django_q: schedules are moved, all or none."""

from __future__ import annotations

import datetime
from io import StringIO

import pytest
from django.apps.registry import Apps
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.utils import timezone

from django_dbq import Job, calls
from django_dbq.models import Schedule
from django_dbq.testing import run_jobs
from tests.models import Row

pytestmark = pytest.mark.django_db(transaction=True)

apps = Apps()  # Not of the project: the tables are there for these tests only.
NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
WRITE = "tests.commands.functions.write_any"


class Old(models.Model):
    """The columns that django-q, before django-q2, has."""

    name = models.CharField(max_length=100, null=True)
    func = models.CharField(max_length=256, default=WRITE)
    hook = models.CharField(max_length=256, null=True)
    args = models.TextField(null=True)
    kwargs = models.TextField(null=True)
    schedule_type = models.CharField(max_length=2, default="D")
    minutes = models.PositiveSmallIntegerField(null=True)
    repeats = models.IntegerField(default=-1)
    next_run = models.DateTimeField(default=NOON, null=True)
    cron = models.CharField(max_length=100, null=True)
    task = models.CharField(max_length=100, null=True)

    class Meta:
        abstract = True


class OldSchedule(Old):
    """As the migrations of django-q2 make it."""

    cluster = models.CharField(max_length=100, null=True)
    intended_date_kwarg = models.CharField(max_length=100, null=True)

    class Meta:
        apps = apps
        app_label = "django_q"
        db_table = "django_q_schedule"

    def __str__(self):
        return self.func


class OlderSchedule(Old):
    class Meta:
        apps = Apps()
        app_label = "django_q"
        db_table = "django_q_schedule"

    def __str__(self):
        return self.func


class OldQueued(models.Model):
    key = models.CharField(max_length=100)
    payload = models.TextField()
    lock = models.DateTimeField(null=True)

    class Meta:
        apps = apps
        app_label = "django_q"
        db_table = "django_q_ormq"

    def __str__(self):
        return self.key


@pytest.fixture
def tables(request, transactional_db):
    """The tables of django-q, beside this package's."""
    made = getattr(request, "param", [OldSchedule, OldQueued])
    with connections["default"].schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    yield
    with connections["default"].schema_editor() as editor:
        for model in made:
            editor.delete_model(model)


def said(*args):
    out = StringIO()
    call_command("import_jobs", "--from", "django_q", *args, stdout=out, stderr=out)
    return out.getvalue()


def refused(*args):
    """Return what a run that is refused says, with its error."""
    out = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("import_jobs", "--from", "django_q", *args, stdout=out, stderr=out)
    return f"{out.getvalue()}{raised.value}"


def everything():
    return [list(model.objects.order_by("pk").values()) for model in (OldSchedule, OldQueued, Schedule, Job)]


def moved(**values):
    """Move one row; return the schedule that it has become."""
    OldSchedule.objects.create(**values)
    said("--apply")
    return Schedule.objects.get()


def job_call(job):
    call = calls.read(job.call)
    return call.args, call.kwargs


def test_without_apply_it_counts_and_writes_nothing(tables):
    OldSchedule.objects.create(args="'a'")
    OldSchedule.objects.create(args="'b'")
    OldSchedule.objects.create(func="tests.commands.functions.boom")
    OldSchedule.objects.create(func="gone.away", repeats=0)
    OldSchedule.objects.create(func="gone.away", next_run=None)
    before = everything()
    assert said() == (
        "To move from django_q: schedules=3\n"
        "  tests.commands.functions.boom 1\n"
        f"  {WRITE} 2\n"
        "queued tasks=0\n"
        "refused=0\n"
        "nothing was written; run again with --apply\n"
    )
    assert everything() == before


def test_a_moved_schedule_fires_here_and_no_more_there(tables):
    hour_ago = timezone.now() - datetime.timedelta(hours=1)
    schedule = moved(name="writes", args="'fired'", schedule_type="O", next_run=hour_ago)
    assert schedule.fire(timezone.now()) == 1
    assert run_jobs() == 1
    assert [*Row.objects.values_list("text", flat=True)] == ["fired"]
    assert OldSchedule.objects.get().repeats == 0


def test_a_second_run_finds_nothing(tables):
    moved()
    assert "schedules=0\n" in said()
    assert said("--apply").splitlines()[-1].startswith("Moved: schedules=0 ")
    assert Schedule.objects.count() == 1


@pytest.mark.parametrize(
    ("letter", "kind"),
    [
        *[("O", "once"), ("I", "minutes"), ("H", "hourly"), ("D", "daily"), ("W", "weekly")],
        *[("BW", "biweekly"), ("M", "monthly"), ("BM", "bimonthly"), ("Q", "quarterly"), ("Y", "yearly")],
    ],
)
def test_every_kind_of_schedule_is_moved_with_its_next_time(tables, letter, kind):
    schedule = moved(schedule_type=letter, repeats=4)
    assert (schedule.kind, schedule.next_run, schedule.repeats) == (kind, NOON, 4)


def test_what_else_a_row_holds_is_moved_too(tables):
    schedule = moved(
        name="report",
        hook="tests.commands.functions.boom",
        schedule_type="I",
        minutes=20,
        repeats=-7,
        cluster="reports",
        intended_date_kwarg="text",
    )
    assert (schedule.name, schedule.minutes, schedule.repeats) == ("report", 20, -1)
    job = schedule.job(NOON)
    assert (job.queue_name, job.label) == ("reports", "report")
    assert '"hook": "tests.commands.functions.boom"' in job.call
    assert job_call(job)[1]["text"] == NOON


def test_a_row_of_no_minutes_ran_each_minute(tables):
    assert moved(schedule_type="I", minutes=0).minutes == 1


def test_a_cron_line_is_moved(tables):
    schedule = moved(schedule_type="C", cron="30 6 * * *")
    assert (schedule.kind, schedule.cron) == ("cron", "30 6 * * *")
    assert schedule.next_run == NOON + datetime.timedelta(hours=18, minutes=30)


@pytest.mark.parametrize(
    ("args", "kwargs", "called"),
    [
        (None, None, ([], {})),
        ("", " ", ([], {})),
        ("1", None, ([1], {})),
        ("1, 'two'", None, ([1, "two"], {})),
        ("[1, 2]", None, ([[1, 2]], {})),
        (None, "a=1, b='two'", ([], {"a": 1, "b": "two"})),
        (None, "{'a': 1, 'name': 'of the function'}", ([], {"a": 1, "name": "of the function"})),
        (None, "a=1, q_options={'timeout': 5}", ([], {"a": 1})),
    ],
)
def test_arguments_are_read_as_django_q_reads_them(tables, args, kwargs, called):
    assert job_call(moved(args=args, kwargs=kwargs).job(NOON)) == called


def test_options_among_the_arguments_stay_options(tables):
    call = moved(kwargs="timeout=5, q_options={'cluster': 'slow', 'hook': 'tests.commands.functions.boom'}")
    job = call.job(NOON)
    assert job.queue_name == "slow"
    assert '"timeout_seconds": 5' in job.call
    assert '"hook": "tests.commands.functions.boom"' in job.call


@pytest.mark.parametrize("apply", [[], ["--apply"]])
def test_what_cannot_be_moved_is_named_and_keeps_everything_from_being_moved(tables, apply):
    Schedule.of_call(WRITE, ["x"], name="taken", kind="daily").save()
    reasons = {
        OldSchedule.objects.create(**values).pk: reason
        for values, reason in [
            ({"func": "gone.away"}, "does not import"),
            ({"args": "open('/etc/passwd')"}, "its args cannot be read: \"open('/etc/passwd')\""),
            ({"kwargs": "a=b"}, "its kwargs cannot be read: 'a=b'"),
            ({"kwargs": "a=1) or (2"}, "its kwargs cannot be read"),
            ({"kwargs": "**{}"}, "its kwargs cannot be read"),
            ({"kwargs": "{1, 2}"}, "its kwargs are no dictionary"),
            ({"kwargs": "{1: 2}"}, "the name 1 is not a string"),
            ({"kwargs": "a={1}"}, "kwargs['a'] is a builtins.set"),
            ({"schedule_type": "C", "cron": "61 * * * *"}, "minute"),
            ({"func": "tests.commands.functions.write"}, "write(text) does not take these arguments"),
            ({"schedule_type": "X"}, "'X' is no kind of schedule"),
            ({"name": "taken"}, "there is a schedule named 'taken' here already"),
            ({"kwargs": "q_options={'group': 'g'}"}, "its kwargs name a group"),
            ({"hook": "gone.away"}, "'gone.away' does not import"),
        ]
    }
    OldSchedule.objects.create()
    before = everything()
    found = refused(*apply)
    for pk, reason in reasons.items():
        [line] = [line for line in found.splitlines() if f"django_q_schedule {pk} " in line]
        assert reason in line
    assert f"{len(reasons)} cannot be moved, so nothing was written" in found
    assert everything() == before


def test_a_schedule_that_the_new_code_has_made_already_is_left_out_as_it_tells(tables):
    Schedule.of_call(WRITE, ["new"], name="nightly", kind="daily").save()
    OldSchedule.objects.create(name="nightly", args="'old'")
    OldSchedule.objects.create(name="weekly")
    assert "leave them out, by 0 in the column `repeats` of django_q_schedule" in refused("--apply")
    OldSchedule.objects.filter(name="nightly").update(repeats=0)
    said("--apply")
    assert sorted(Schedule.objects.values_list("name", flat=True)) == ["nightly", "weekly"]
    assert job_call(Schedule.objects.get(name="nightly").job(NOON)) == (["new"], {})


def test_what_comes_while_it_runs_is_not_moved_by_halves(tables, monkeypatch):
    from django_dbq.compat import django_q_import

    looked = django_q_import.look

    def look(using):
        found = looked(using)
        OldSchedule.objects.create(func="shop.nowhere.work")
        return found

    monkeypatch.setattr(django_q_import, "look", look)
    OldSchedule.objects.create()
    assert "Nothing was written: 'shop.nowhere.work' does not import" in refused("--apply")
    assert not Schedule.objects.exists()
    assert not OldSchedule.objects.filter(repeats=0).exists()


@pytest.mark.parametrize("tables", [[OlderSchedule]], indirect=True)
def test_the_table_of_an_older_version_has_fewer_columns(tables):
    OlderSchedule.objects.create(args="'a'")
    assert said("--apply").splitlines()[-1] == (
        "Moved: schedules=1 queued tasks=0; in django_q_schedule they have repeats=0 now,"
        " and from django_q_ormq they are gone"
    )
    assert Schedule.objects.get().path == WRITE


def test_a_database_without_its_table_is_named():
    assert refused() == (
        "The database 'default' has no table django_q_schedule. --database names the one"
        " where django-q keeps its jobs; those of this package have to be in the same."
    )
