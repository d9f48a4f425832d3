"""Many jobs of one name at once: as if each had been created, in one transaction."""

import datetime

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_dbq import Group, GroupError, UnknownJob, WorkspaceError, signals
from django_dbq.models import Job, queryset

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

ENGINE_S_OWN = {"id", "created", "modified", "workspace"}


def stamp(job):
    job.workspace["seen"].append(str(job.id))


def look(job):
    pass


@pytest.fixture
def jobs(store):
    return Job.objects.using(store.using)


def test_each_workspace_becomes_a_job_and_the_ids_come_back_in_order(jobs):
    ids = jobs.enqueue_many("five", ({"number": number} for number in range(3)))
    assert ids == sorted(ids)
    assert [jobs.get(pk=pk).workspace for pk in ids] == [{"number": number} for number in range(3)]


def test_they_are_as_create_makes_them(jobs):
    (many,) = jobs.enqueue_many("other_queue", [{"a": 1}])
    one = jobs.create(name="other_queue", workspace={"a": 1})
    fields = [field.attname for field in Job._meta.concrete_fields if field.attname not in ENGINE_S_OWN]
    found, created = jobs.get(pk=many), jobs.get(pk=one.pk)
    assert {name: getattr(found, name) for name in fields} == {
        name: getattr(created, name) for name in fields
    }
    assert found.workspace == created.workspace
    assert abs(found.created - timezone.now()) < datetime.timedelta(minutes=1)


def test_queue_priority_and_time_may_be_given(jobs, store):
    later = timezone.now() + datetime.timedelta(hours=1)
    (pk,) = jobs.enqueue_many("nothing", [{}], queue_name="mail", priority=7, run_after=later)
    found = jobs.get(pk=pk)
    assert (found.queue_name, found.priority, found.staged) == ("mail", 7, False)
    assert abs(found.run_after - later) < datetime.timedelta(milliseconds=1)
    assert store.claim(["mail"], worker="w", limit=9, lease_seconds=60) == []


def test_they_are_claimed_in_the_order_given(jobs, store):
    ids = jobs.enqueue_many("nothing", [{}] * 20)
    claimed = store.claim(["default"], worker="w", limit=20, lease_seconds=60)
    assert [each.pk for each in claimed] == ids


def test_no_workspace_is_an_empty_one(jobs):
    (pk,) = jobs.enqueue_many("nothing", [None])
    assert jobs.get(pk=pk).workspace == {}


def test_of_nothing_nothing_is_made(jobs):
    assert jobs.enqueue_many("nothing", []) == []
    assert not jobs.exists()


def test_what_json_has_trouble_with_arrives_as_it_was(jobs):
    workspace = {"quote": 'it\'s "so"', "back": "a\\b", "brace": "{1,NULL}", "word": "Grüß", "percent": "%s"}
    (pk,) = jobs.enqueue_many("nothing", [workspace])
    assert jobs.get(pk=pk).workspace == workspace


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"key": object()}, r"workspaces\[2\]\['?key'?\]"),
        ([], r"workspaces\[2\] must be a dictionary"),
    ],
)
def test_one_wrong_workspace_is_named_and_none_is_created(jobs, monkeypatch, wrong, said):
    monkeypatch.setattr(queryset, "ENQUEUE_BATCH", 1)
    with pytest.raises(WorkspaceError, match=said):
        jobs.enqueue_many("nothing", [{}, {}, wrong])
    assert not jobs.exists()


def test_a_wrong_workspace_is_named_by_its_place_also_where_a_hook_sees_each_job(jobs, settings):
    settings.JOBS = {"a": {"tasks": ["tests.workflows.nothing"], "creation_hook": f"{__name__}.stamp"}}
    with pytest.raises(WorkspaceError, match=r"workspaces\[1\]"):
        jobs.enqueue_many("a", [{"seen": []}, {"seen": float("nan")}])
    assert not jobs.exists()


def test_the_jobs_of_a_group_refuse_it(store):
    group = Group.objects.using(store.using).create(reference="one")
    with pytest.raises(GroupError, match="bulk_create"):
        group.jobs.enqueue_many("nothing", [{}])
    assert not group.jobs.exists()


def test_an_unknown_name_is_refused_before_the_first_workspace_is_asked_for(jobs):
    asked = iter([{}])
    with pytest.raises(UnknownJob):
        jobs.enqueue_many("nobody", asked)
    assert list(asked) == [{}]


def test_they_are_rolled_back_with_the_caller_s_transaction(jobs, store):
    with transaction.atomic(using=store.using):
        jobs.enqueue_many("nothing", [{}])
        transaction.set_rollback(True, using=store.using)
    assert not jobs.exists()


def test_a_creation_hook_sees_each_job(jobs, settings):
    settings.JOBS = {"a": {"tasks": ["tests.workflows.nothing"], "creation_hook": f"{__name__}.stamp"}}
    ids = jobs.enqueue_many("a", [{"seen": []}] * 2)  # One object, but not one workspace.
    assert [jobs.get(pk=pk).workspace for pk in ids] == [{"seen": [str(pk)]} for pk in ids]


def test_receivers_of_pre_enqueue_see_each_job(jobs):
    seen = []

    def receive(task, **kwargs):
        seen.append(task["id"])

    signals.pre_enqueue.connect(receive)
    try:
        ids = jobs.enqueue_many("nothing", [{}, {}])
    finally:
        signals.pre_enqueue.disconnect(receive)
    assert len(seen) == len(ids) == 2


@pytest.mark.parametrize("hook", [None, f"{__name__}.look"])
def test_large_ones_go_in_several_statements(jobs, store, monkeypatch, settings, hook):
    settings.JOBS = {"nothing": {"tasks": ["tests.workflows.nothing"], "creation_hook": hook}}
    monkeypatch.setattr(queryset, "ENQUEUE_BYTES", 100)
    with CaptureQueriesContext(connections[store.using]) as queries:
        jobs.enqueue_many("nothing", [{"text": "x" * 60}] * 4)
    inserts = [each["sql"] for each in queries if "INSERT INTO" in each["sql"].upper()]
    assert len(inserts) == 2
    assert jobs.count() == 4
