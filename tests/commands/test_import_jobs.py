"""manage.py import_jobs: what django-async has left to run is moved over, all of it or nothing."""

from __future__ import annotations

import datetime
import json
from io import StringIO

import pytest
from django.apps.registry import Apps
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.utils import timezone

from django_dbq import Group, Job, deschedule
from django_dbq.testing import run_jobs
from tests.commands import functions
from tests.models import Row

pytestmark = pytest.mark.django_db(transaction=True)

apps = Apps()  # Not of the project: the tables are there for these tests only.


class OldGroup(models.Model):
    """As the migration of django-async makes it."""

    id = models.AutoField(primary_key=True)
    reference = models.CharField(max_length=100)
    description = models.TextField(null=True, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    final = models.ForeignKey("OldJob", models.CASCADE, null=True, related_name="ends", db_constraint=False)

    class Meta:
        apps = apps
        app_label = "async"
        db_table = "async_group"

    def __str__(self):
        return self.reference


class OldJob(models.Model):
    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=100)
    args = models.TextField()
    kwargs = models.TextField()
    meta = models.TextField()
    result = models.TextField(blank=True)
    priority = models.IntegerField()
    identity = models.CharField(max_length=100, db_index=True)
    added = models.DateTimeField(auto_now_add=True)
    scheduled = models.DateTimeField(null=True, blank=True)
    started = models.DateTimeField(null=True, blank=True)
    executed = models.DateTimeField(null=True, blank=True)
    cancelled = models.DateTimeField(null=True, blank=True)
    group = models.ForeignKey(OldGroup, models.CASCADE, null=True, blank=True, related_name="jobs")

    class Meta:
        apps = apps
        app_label = "async"
        db_table = "async_job"

    def __str__(self):
        return self.name


class OldError(models.Model):
    id = models.AutoField(primary_key=True)
    job = models.ForeignKey(OldJob, models.CASCADE, related_name="errors")
    executed = models.DateTimeField(auto_now_add=True)
    exception = models.TextField()
    traceback = models.TextField()

    class Meta:
        apps = apps
        app_label = "async"
        db_table = "async_error"

    def __str__(self):
        return self.exception


MODELS = [OldGroup, OldJob, OldError]


@pytest.fixture
def tables(request, transactional_db):
    """The tables of django-async, beside this package's."""
    alias = getattr(request, "param", "default")
    with connections[alias].schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield alias
    with connections[alias].schema_editor() as editor:
        for model in reversed(MODELS):
            editor.delete_model(model)


WRITE = "tests.commands.functions.write"


def old(name=WRITE, args=("a",), kwargs=None, using="default", **values):
    """Write a row as django-async's schedule() does."""
    columns = {"args": json.dumps(args), "kwargs": json.dumps(kwargs or {}), "meta": "{}", "priority": 5}
    return OldJob.objects.using(using).create(name=name, **{**columns, **values})


def said(*args):
    out = StringIO()
    call_command("import_jobs", "--from", "django_async", *args, stdout=out, stderr=out)
    return out.getvalue()


def refused(*args):
    """Return what a run that is refused says, with its error."""
    out = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("import_jobs", "--from", "django_async", *args, stdout=out, stderr=out)
    assert raised.value.returncode == 1
    return f"{out.getvalue()}{raised.value}"


def everything():
    return [list(model.objects.order_by("pk").values()) for model in (*MODELS, Job, Group)]


def test_without_apply_it_counts_and_writes_nothing(tables):
    group = OldGroup.objects.create(reference="import")
    old(group=group)
    old()
    failed = old("tests.commands.functions.boom")
    for _ in range(3):
        OldError.objects.create(job=failed, exception="ValueError()", traceback="")
    OldError.objects.create(job=old(executed=timezone.now()), exception="ValueError()", traceback="")
    old(cancelled=timezone.now())
    before = everything()
    assert said() == (
        "To move from django_async: jobs=3\n"
        "  tests.commands.functions.boom 1\n"
        "  tests.commands.functions.write 2\n"
        "groups=1 earlier errors=3 refused=0\n"
        "nothing was written; run again with --apply\n"
    )
    assert everything() == before


def test_with_apply_a_signed_call_is_created_for_each_and_its_row_cancelled(tables):
    later = timezone.now().replace(microsecond=0) + datetime.timedelta(hours=1)
    rows = [
        old(args=["first"]),
        old(args=[], kwargs={"text": "second"}, priority=3),
        old(args=["later"], scheduled=later),
    ]
    gone = [old(args=["done"], executed=later), old(args=["cancelled"], cancelled=later)]
    kept = list(OldJob.objects.filter(pk__in=[row.pk for row in gone]).values())
    assert said("--apply").splitlines()[-1] == (
        "Moved: jobs=3 groups=0; their rows in async_job are now cancelled"
    )
    columns = Job.objects.order_by("pk").values_list("name", "priority", "run_after", "queue_name", "state")
    assert list(columns) == [
        (WRITE, 5, None, "default", "NEW"),
        (WRITE, 3, None, "default", "NEW"),
        (WRITE, 5, later, "default", "NEW"),
    ]
    assert run_jobs() == 2
    assert list(Row.objects.order_by("pk").values_list("text", flat=True)) == ["first", "second"]
    assert deschedule(functions.write, ["later"]) == 1
    for row in rows:
        row.refresh_from_db()
        assert row.cancelled is not None and row.executed is None
    assert list(OldJob.objects.filter(pk__in=[row.pk for row in gone]).values()) == kept


def test_a_second_run_finds_nothing(tables):
    old()
    said("--apply")
    assert "jobs=0\n" in said()
    assert said("--apply").splitlines()[-1].startswith("Moved: jobs=0 groups=0;")
    assert Job.objects.count() == 1


def test_the_order_is_kept_over_more_than_one_page(tables, monkeypatch):
    from django_dbq.compat import importing

    monkeypatch.setattr(importing, "BATCH", 3)
    for number in range(8):
        old(args=[str(number)])
    said("--apply")
    assert run_jobs() == 8
    assert list(Row.objects.order_by("pk").values_list("text", flat=True)) == list("01234567")


def test_a_group_comes_with_its_description_and_its_final_job(tables):
    group = OldGroup.objects.create(reference="import", description="of cats")
    final = old(args=["final"], group=group, priority=9)
    OldGroup.objects.update(final=final)
    old(args=["done"], group=group, executed=timezone.now())
    for text in "ab":
        old(args=[text], group=group)
    done = OldGroup.objects.create(reference="done")
    old(group=done, executed=timezone.now())
    assert said("--apply").splitlines()[-1].startswith("Moved: jobs=3 groups=1;")
    ours = Group.objects.get()
    assert (ours.reference, ours.description) == ("import", "of cats")
    assert ours.jobs.count() == 3 and ours.final.state == "WAITING"
    assert run_jobs() == 3
    assert list(Row.objects.order_by("pk").values_list("text", flat=True)) == ["a", "b", "final"]


def test_a_final_job_whose_others_have_run_is_moved_and_runs(tables):
    group = OldGroup.objects.create(reference="import")
    old(group=group, executed=timezone.now())
    OldGroup.objects.update(final=old(args=["final"], group=group))
    said("--apply")
    assert run_jobs() == 1
    assert Row.objects.get().text == "final"


def test_the_packages_own_job_becomes_ours(tables):
    old("async.api.remove_old_jobs", [30, 8], scheduled=timezone.now())
    assert "  django_dbq.compat.django_async.remove_old_jobs 1\n" in said("--apply")
    assert run_jobs() == 1
    assert Job.objects.filter(state="NEW", name__endswith=".remove_old_jobs").count() == 1


@pytest.mark.parametrize("name", ["sum", "__builtin__.sum", "builtins.sum"])
def test_a_builtin_is_found_whatever_its_python_called_it(tables, name):
    old(name, [[1, 2]])
    assert "  builtins.sum 1\n" in said("--apply")
    assert run_jobs() == 1 and Job.objects.get().result == 3


@pytest.mark.parametrize("apply", [["--apply"], []])
def test_what_cannot_be_moved_is_named_and_keeps_everything_from_being_moved(tables, apply):
    old()
    rows = [
        old("shop.nowhere.work"),
        old("tests.commands.functions.no_longer"),
        old("tests.commands.functions.DEADLINE"),
        old("nowhere"),
        old(args=["a"], kwargs=["b"]),
        old(args={"a": 1}),
        old(args=[float("nan")]),
        old(priority=40_000),
    ]
    OldJob.objects.filter(pk=rows[2].pk).update(name="tests.commands.functions.__name__", args="['a']")
    OldJob.objects.filter(pk=rows[0].pk).update(kwargs="{")
    reasons = [
        f"async_job {rows[0].pk} (shop.nowhere.work): its kwargs are not JSON",
        f"async_job {rows[1].pk} (tests.commands.functions.no_longer): 'tests.commands.functions.no_longer'"
        " does not import",
        f"async_job {rows[2].pk} (tests.commands.functions.__name__): its args are not JSON",
        f"async_job {rows[3].pk} (nowhere): 'nowhere' does not import",
        f"async_job {rows[4].pk} ({WRITE}): kwargs of {WRITE} must be a dictionary",
        f"async_job {rows[5].pk} ({WRITE}): args of {WRITE} must be a list",
        f"async_job {rows[6].pk} ({WRITE}): {WRITE}: args[0] is nan, which JSON does not have",
        f"async_job {rows[7].pk} ({WRITE}): its priority must be from -32768 to 32767, not 40000",
    ]
    before = everything()
    found = refused(*apply)
    for reason in reasons:
        assert reason in found
    assert "refused=8" in found and "8 cannot be moved, so nothing was written" in found
    assert "or cancel them, by a time in the column `cancelled` of async_job, and run again" in found
    assert everything() == before


@pytest.mark.parametrize("apply", [["--apply"], []])
def test_a_group_whose_reference_is_taken_is_refused(tables, apply):
    ours = Group.objects.create(reference="import")
    Job.objects.create(name="nothing", group=ours)
    group = OldGroup.objects.create(reference="import")
    twice = [OldGroup.objects.create(reference="twice") for _ in range(2)]
    for each in (group, *twice):
        old(group=each)
    before = everything()
    found = refused(*apply)
    assert f"async_group {group.pk}: group 'import' is not done: 1 NEW" in found
    assert f"async_group {twice[1].pk}: async_group {twice[0].pk} has jobs to run under 'twice' too" in found
    assert everything() == before


def test_what_comes_while_it_runs_is_not_moved_by_halves(tables, monkeypatch):
    """A row that `look` did not see is checked again by `move`, which then undoes all."""
    from django_dbq.compat import django_async_import

    looked = django_async_import.look

    def look(using):
        found = looked(using)
        old("shop.nowhere.work")
        return found

    monkeypatch.setattr(django_async_import, "look", look)
    old(group=OldGroup.objects.create(reference="import"))
    assert "Nothing was written: 'shop.nowhere.work' does not import" in refused("--apply")
    assert not Job.objects.exists() and not Group.objects.exists()
    assert not OldJob.objects.filter(cancelled__isnull=False).exists()


def test_a_database_without_its_tables_is_named():
    assert refused() == (
        "The database 'default' has no table async_job, async_group, async_error. --database names the one"
        " where django-async keeps its jobs; those of this package have to be in the same."
    )


@pytest.mark.django_db(transaction=True, databases=["default", "jobs"])
@pytest.mark.parametrize("tables", ["jobs"], indirect=True)
def test_another_database_may_be_named(tables):
    old(using="jobs")
    assert said("--apply", "--database", "jobs").splitlines()[-1].startswith("Moved: jobs=1 ")
    assert Job.objects.using("jobs").count() == 1 and not Job.objects.exists()


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "the following arguments are required: --from"),
        (["--from", "celery"], "argument --from: invalid choice: 'celery'"),
    ],
)
def test_whose_jobs_has_to_be_said(args, message):
    with pytest.raises(CommandError, match=message):
        call_command("import_jobs", *args)
