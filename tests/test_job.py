"""What a caller of Job sees: creating, saving, counting and deleting."""

from __future__ import annotations

import copy
import datetime
import importlib
import os
import pickle
import re
import signal
import uuid
from decimal import Decimal

import freezegun
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.db.models import Value
from django.db.models.functions import Lower
from django.utils import timezone

import django_dbq
from django_dbq import Job, SettingsError, TaskRun, UnknownJob, WorkspaceError, calls, tasks
from django_dbq.exceptions import DBQError
from django_dbq.models import ids, uuid7
from django_dbq.models.ids import read_uuid
from django_dbq.testing import run_jobs
from tests.models import Row

pytestmark = pytest.mark.django_db

HERE = f"{__name__}."
NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def nothing(job):
    pass


def count(job):
    job.workspace["count"] = job.workspace.get("count", 0) + 1


def stamp(job):
    """A creation hook: it sees a job that is ready to insert, and not inserted."""
    assert not Job.objects.filter(pk=job.pk).exists()
    job.workspace["stamp"] = f"{job.name} {job.next_task}"
    job.priority = 7


def refuse(job):
    raise ValueError("not today")


def refuse_the_second(job):
    if job.workspace.get("n") == 2:
        raise ValueError("not today")


def spoil(job):
    job.workspace["when"] = {"deep": float("nan")}


@pytest.fixture(autouse=True)
def jobs(settings):
    settings.JOBS = {
        "plain": [f"{HERE}nothing"],
        "three": [f"{HERE}count"] * 3,
        "reports": {"tasks": [f"{HERE}nothing"], "queue_name": "reports", "priority": 5},
        "stamped": {"tasks": [f"{HERE}nothing"], "creation_hook": f"{HERE}stamp"},
        "refused": {"tasks": [f"{HERE}nothing"], "creation_hook": f"{HERE}refuse"},
        "refused_second": {"tasks": [f"{HERE}nothing"], "creation_hook": f"{HERE}refuse_the_second"},
        "spoiled": {"tasks": [f"{HERE}nothing"], "creation_hook": f"{HERE}spoil"},
    }


# Creation.


def test_a_new_job_stands_at_its_first_task_with_its_plan():
    job = Job.objects.create(name="three", workspace={"a": 1})
    job.refresh_from_db()
    assert (job.state, job.next_task, job.position, job.attempt) == ("NEW", f"{HERE}count", 0, 0)
    assert job.plan == [f"{HERE}count"] * 3
    assert job.workspace == {"a": 1} and (job.queue_name, job.priority) == ("default", 0)
    assert (
        job.run_after is job.claimed_by is job.lease_until is job.finished is job.result is job.error is None
    )
    assert str(job) == f"three {job.pk} (NEW)"


def test_a_job_without_a_workspace_has_an_empty_one():
    job = Job.objects.create(name="plain")
    job.refresh_from_db()
    assert job.workspace == {}
    given_none = Job.objects.create(name="plain", workspace=None)
    given_none.refresh_from_db()
    assert given_none.workspace == {}


def test_a_job_of_a_rolled_back_transaction_never_was():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Job.objects.create(name="plain")
        Job.objects.bulk_create([Job(name="plain")])
        assert Job.objects.count() == 2
        raise ZeroDivisionError
    assert not Job.objects.exists()


def test_a_workflow_gives_its_jobs_their_queue_and_priority():
    job = Job.objects.create(name="reports")
    assert (job.queue_name, job.priority) == ("reports", 5)
    job = Job.objects.create(name="reports", queue_name="mine", priority=-1)
    job.refresh_from_db()
    assert (job.queue_name, job.priority) == ("mine", -1)
    [job] = Job.objects.bulk_create([Job(name="reports")])
    assert (job.queue_name, job.priority) == ("reports", 5)


@pytest.mark.parametrize("name, place", [("reports", ("reports", 5)), ("plain", ("default", 0))])
def test_none_for_a_queue_or_a_priority_leaves_it_to_the_workflow(name, place):
    job = Job.objects.create(name=name, queue_name=None, priority=None)
    [other] = Job.objects.bulk_create([Job(name=name, queue_name=None, priority=None)])
    for one in (job, other):
        assert (one.queue_name, one.priority) == place
        one.refresh_from_db()
        assert (one.queue_name, one.priority) == place


def test_a_call_without_a_queue_or_a_priority_has_those_of_every_job():
    columns = calls.call_columns("builtins.len", ["tea"], None, {})
    job = Job.objects.create(**columns, queue_name=None, priority=None)
    assert (job.queue_name, job.priority, calls.signature_holds(job)) == ("default", 0, True)


def test_an_expression_of_the_database_may_say_the_queue_and_the_priority():
    job = Job.objects.create(name="plain", queue_name=Lower(Value("MAIL")), priority=Value(1) + Value(2))
    job = Job.objects.get(pk=job.pk)
    assert (job.queue_name, job.priority) == ("mail", 3)


@pytest.mark.parametrize(
    "values",
    [
        {"queue_name": ""},
        {"queue_name": "q" * 101},
        {"queue_name": ["a"]},
        {"queue_name": 5},
        {"priority": 32768},
        {"priority": "32768"},
        {"priority": "high"},
        {"priority": ["a"]},
        {"priority": float("inf")},
    ],
    ids=str,
)
def test_a_queue_or_a_priority_that_a_database_would_not_keep_is_refused(values):
    [(field, value)] = values.items()
    message = f"number from -32768 to 32767, not {value!r}" if field == "priority" else f"not {value!r}"
    for create in (
        lambda: Job.objects.create(name="plain", **values),
        lambda: Job.objects.bulk_create([Job(name="plain", **values)]),
        lambda: Job.objects.enqueue_many("plain", [{}], **values),
    ):
        with pytest.raises(DBQError, match=re.escape(message)):
            create()
    assert not Job.objects.exists()


def test_nobody_waits_for_a_job_that_was_not_saved():
    with pytest.raises(DBQError, match="was not saved: there is nothing to wait for"):
        Job(name="plain").wait(1)


@pytest.mark.parametrize("length, field", [(100, "queue_name"), (100, "name")])
def test_names_may_be_a_hundred_characters_long(settings, length, field):
    settings.JOBS = {"n" * 100: [f"{HERE}nothing"], "plain": [f"{HERE}nothing"]}
    value = "n" * length
    job = Job.objects.create(**{"name": "plain", field: value})
    job.refresh_from_db()
    assert getattr(job, field) == value


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownJob, match=r"JOBS has no job named 'report'\. Did you mean 'reports'\?"):
        Job.objects.create(name="report")
    with pytest.raises(UnknownJob, match=r"JOBS has: plain, refused, .*three\."):
        Job.objects.create(name="zzzzzz")
    with pytest.raises(KeyError):  # What the original raised.
        Job.objects.create()
    with pytest.raises(UnknownJob):
        Job.objects.bulk_create([Job(name="plain"), Job(name="nope")])
    assert not Job.objects.exists()


def test_without_any_jobs_the_error_says_that_jobs_is_empty(settings):
    settings.JOBS = {}
    with pytest.raises(UnknownJob, match="JOBS is empty"):
        Job.objects.create(name="plain")


def test_a_jobs_setting_that_cannot_be_used_is_an_error_that_lists_every_fault(settings):
    settings.JOBS = {"one": [], "two": {"taks": []}}
    with pytest.raises(SettingsError) as caught:
        Job.objects.create(name="one")
    assert len(caught.value.problems) == 3 and "JOBS['one']" in str(caught.value)
    assert not isinstance(caught.value, ImproperlyConfigured)


BAD_WORKSPACES = [
    ([1], "must be a dictionary .a JSON object., not list"),
    ([], "must be a dictionary .a JSON object., not list"),
    ("text", "must be a dictionary .a JSON object., not str"),
    ({"a": {"b": [1, object()]}}, r"workspace\['a'\]\['b'\]\[1\]: Object of type object"),
    ({"a": float("nan")}, r"workspace\['a'\]: .*nan|workspace\['a'\]: Out of range"),
    ({"a": [float("inf")]}, r"workspace\['a'\]\[0\]"),
    ({"a": {"b": "x\0y"}}, r"workspace\['a'\]\['b'\]: holds a NUL"),
    ({"a\0": 1}, r"the key 'a\\x00' holds a NUL"),
    ({"a": "\ud800"}, r"workspace\['a'\]: holds a NUL or half a surrogate"),
    ({"a": {(1, 2): 3}}, r"workspace\['a'\]: the key \(1, 2\) is not a string"),
    ({"a": "x" * 1_048_576}, r"workspace is 1,048,585 bytes as JSON; at most 1,048,576"),
]


@pytest.mark.parametrize("workspace, message", BAD_WORKSPACES)
def test_a_workspace_that_cannot_be_kept_is_refused_and_names_the_key(workspace, message):
    with pytest.raises(WorkspaceError, match=message):
        Job.objects.create(name="plain", workspace=workspace)
    with pytest.raises(ValueError, match=message):
        Job.objects.bulk_create([Job(name="plain"), Job(name="plain", workspace=workspace)])
    assert not Job.objects.exists()


@pytest.mark.parametrize("workspace, message", BAD_WORKSPACES[:6])
def test_saving_a_workspace_that_cannot_be_kept_is_refused_too(workspace, message):
    job = Job.objects.create(name="plain", workspace={"good": 1})
    job.workspace = workspace
    with pytest.raises(WorkspaceError, match=message):
        job.save()
    job.refresh_from_db()
    assert job.workspace == {"good": 1}


def test_a_workspace_that_holds_itself_is_refused():
    loop = {}
    loop["loop"] = loop
    with pytest.raises(WorkspaceError, match=r"workspace\['loop'\]: holds itself"):
        Job.objects.create(name="plain", workspace=loop)


def test_the_limit_of_a_workspace_is_a_setting_and_is_itself_allowed(settings):
    settings.DBQ = {"WORKSPACE_BYTES_MAX": 20}
    Job.objects.create(name="plain", workspace={"a": "x" * 11})
    with pytest.raises(WorkspaceError, match="21 bytes as JSON; at most 20"):
        Job.objects.create(name="plain", workspace={"a": "x" * 12})


def test_a_workspace_takes_what_the_encoder_of_django_writes():
    number = uuid.uuid4()
    workspace = {
        "day": datetime.date(2026, 1, 31),
        "price": Decimal("1.50"),
        "id": number,
        "text": "ß \\u0000 😀",
    }
    job = Job.objects.create(name="plain", workspace=workspace)
    job.refresh_from_db()
    assert job.workspace == {"day": "2026-01-31", "price": "1.50", "id": str(number), "text": "ß \\u0000 😀"}


def test_a_job_may_be_created_from_async_code():
    from asgiref.sync import async_to_sync

    async def create():
        return await Job.objects.acreate(name="plain")

    job = async_to_sync(create)()
    assert Job.objects.get().pk == job.pk


# The creation hook.


def test_the_creation_hook_runs_before_the_insert_and_its_changes_are_kept():
    job = Job.objects.create(name="stamped")
    job.refresh_from_db()
    assert job.workspace == {"stamp": f"stamped {HERE}nothing"} and job.priority == 7


def test_the_creation_hook_runs_once():
    job = Job.objects.create(name="stamped")
    job.workspace = {}
    job.save()
    job.refresh_from_db()
    assert job.workspace == {}


def test_an_exception_in_the_creation_hook_reaches_the_caller_and_nothing_is_written():
    with pytest.raises(ValueError, match="not today"):
        Job.objects.create(name="refused")
    with pytest.raises(ValueError, match="not today"):
        Job.objects.bulk_create([Job(name="refused_second", workspace={"n": n}) for n in (1, 2)])
    assert not Job.objects.exists()


def test_a_workspace_spoiled_by_the_creation_hook_is_refused():
    with pytest.raises(WorkspaceError, match=r"workspace\['when'\]\['deep'\]"):
        Job.objects.create(name="spoiled")
    assert not Job.objects.exists()


# Many at once.


def test_bulk_created_jobs_are_as_those_created_one_by_one():
    made = Job.objects.bulk_create([Job(name="three"), Job(name="stamped"), Job(name="plain", run_after=NOW)])
    assert [job.name for job in made] == ["three", "stamped", "plain"]
    three, stamped, _ = [Job.objects.get(pk=job.pk) for job in made]
    assert three.next_task == f"{HERE}count" and three.plan == [f"{HERE}count"] * 3
    assert stamped.workspace == {"stamp": f"stamped {HERE}nothing"}
    assert run_jobs() == 3
    assert set(Job.objects.values_list("state", flat=True)) == {"COMPLETE"}


def test_bulk_creating_nothing_is_fine():
    assert Job.objects.bulk_create([]) == []


def test_bulk_created_jobs_may_wait_for_their_time():
    Job.objects.bulk_create([Job(name="plain", run_after=timezone.now() + HOUR)])
    assert run_jobs() == 0


# Saving a job that exists.


@pytest.fixture(params=["created", "bulk created", "loaded", "loaded in part", "refreshed"])
def stale(request):
    """A job as a caller holds it, while a worker has taken its first task further."""
    if request.param == "bulk created":
        [job] = Job.objects.bulk_create([Job(name="three")])
    else:
        job = Job.objects.create(name="three")
    if request.param == "loaded":
        job = Job.objects.get(pk=job.pk)
    elif request.param == "loaded in part":
        job = Job.objects.only("name").get(pk=job.pk)
        assert job.state == "NEW"  # Now it is loaded.
    elif request.param == "refreshed":
        Job.objects.filter(pk=job.pk).update(state="READY", next_task="seen")
        job.refresh_from_db()
    values = {
        "state": "PROCESSING",
        "next_task": f"{HERE}nothing",
        "position": 2,
        "plan": ["other"],
        "attempt": 3,
        "lost_attempts": 1,
        "claim": 9,
        "claimed_by": "worker",
        "lease_until": NOW,
        "started": NOW,
        "result": {"r": 1},
        "error": "e",
    }
    Job.objects.filter(pk=job.pk).update(**values)
    return job, values


def test_save_leaves_what_the_engine_owns_as_it_is(stale):
    job, values = stale
    job.workspace = {"mine": 1}
    job.priority = 4
    job.queue_name = "mine"
    job.save()
    assert Job.objects.filter(pk=job.pk).values(*values).get() == values
    fresh = Job.objects.get(pk=job.pk)
    assert (fresh.workspace, fresh.priority, fresh.queue_name) == ({"mine": 1}, 4, "mine")


def test_save_leaves_the_time_of_the_next_attempt_as_it_is_unless_it_was_changed(stale):
    job, _ = stale
    later = timezone.now() + HOUR
    Job.objects.filter(pk=job.pk).update(run_after=later, staged=False)
    job.priority = 4
    job.save()
    fresh = Job.objects.get(pk=job.pk)
    assert (fresh.run_after, fresh.staged) == (later, False)


def test_a_state_that_the_caller_set_is_saved():
    job = Job.objects.create(name="three")
    job.state = Job.STATES.FAILED
    job.save()
    job.refresh_from_db()
    assert job.state == "FAILED"
    job.state = Job.STATES.READY
    job.save(update_fields=["state"])
    assert run_jobs() == 1
    job.refresh_from_db()
    assert job.state == "COMPLETE"


def test_saved_fields_may_be_named():
    job = Job.objects.create(name="plain", workspace={"a": 1})
    job.workspace, job.priority = {"a": 2}, 3
    job.save(update_fields=["priority"])
    job.refresh_from_db()
    assert (job.workspace, job.priority) == ({"a": 1}, 3)


def test_a_job_that_is_put_off_waits_and_one_that_is_put_forward_runs():
    job = Job.objects.create(name="plain")
    job.run_after = timezone.now() + HOUR
    job.save()
    assert run_jobs() == 0
    job.run_after = None
    job.save(update_fields=["run_after"])
    assert run_jobs() == 1


def test_update_or_create_works():
    job = Job.objects.create(name="plain", run_after=timezone.now() + HOUR)
    Job.objects.update_or_create(pk=job.pk, defaults={"run_after": timezone.now() - HOUR})
    assert run_jobs() == 1


def test_an_id_is_taken_once():
    job = Job.objects.create(name="plain")
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(name="plain", id=job.id)
    assert Job.objects.count() == 1


# Ids.


def test_ids_grow_with_time_and_are_version_7():
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {(number.version, number.variant) for number in made} == {(7, uuid.RFC_4122)}


# Python warns of a fork beside threads, which another test may have left.
FORKS = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def ids_of_children(number):
    """Return the first id that each of so many forked processes makes."""
    made = []
    for _ in range(number):
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            signal.alarm(20)  # For one that waits for ever.
            try:
                os.write(write, uuid7().bytes)
            finally:
                os._exit(0)
        os.close(write)
        made.append(uuid.UUID(bytes=os.read(read, 16)))
        os.close(read)
        os.waitpid(pid, 0)
    return made


@FORKS
def test_processes_forked_after_the_clock_was_set_back_make_ids_of_their_own():
    with freezegun.freeze_time("2098-01-01 00:00:02"):
        uuid7()
    with freezegun.freeze_time("2098-01-01"):
        made = ids_of_children(3)
    assert len(set(made)) == 3


@FORKS
def test_a_process_forked_while_an_id_is_made_can_make_one():
    with ids._uuid7_lock:  # In another thread of the parent's.
        (made,) = ids_of_children(1)
    assert made.version == 7


def test_an_id_that_is_read_is_the_id_that_was_written():
    for written in (uuid7(), uuid.uuid4(), uuid.UUID(int=0)):
        read = read_uuid(str(written))
        assert (read, hash(read), repr(read)) == (written, hash(written), repr(written))
        assert pickle.loads(pickle.dumps(read)) == copy.deepcopy(read) == written


def test_an_id_tells_its_time():
    with freezegun.freeze_time("2099-01-01"):
        later = uuid7()
    assert later.int >> 80 == datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000
    now = timezone.now().timestamp() * 1000
    assert abs((uuid7().int >> 80) - now) < 60_000  # The clock that was set back is believed again.


# Reading.


def test_get_queue_depths_counts_what_waits():
    with freezegun.freeze_time(NOW):
        for values in (
            {},
            {"queue_name": "other"},
            {"queue_name": "other", "state": "READY"},
            {"queue_name": "other", "run_after": NOW + HOUR},
            {"queue_name": "other", "run_after": NOW},
            {"queue_name": "gone", "state": "FAILED"},
            {"queue_name": "other", "state": "PROCESSING"},
        ):
            Job.objects.create(name="plain", **values)
        assert Job.get_queue_depths() == {"default": 1, "other": 4}
        assert Job.get_queue_depths(exclude_future_jobs=True) == {"default": 1, "other": 3}


def test_get_ready_or_none_and_to_process_give_the_due_jobs_in_claim_order():
    with freezegun.freeze_time(NOW) as clock:
        late = Job.objects.create(name="plain", run_after=NOW + HOUR)
        clock.tick(60)
        first = Job.objects.create(name="plain")
        clock.tick(60)
        overdue = Job.objects.create(name="plain", run_after=NOW)
        urgent = Job.objects.create(name="plain", priority=1)
        Job.objects.create(name="plain", queue_name="other")
        for state in set(Job.STATES.values) - {"NEW", "READY"}:
            Job.objects.create(name="plain", state=state)
        with transaction.atomic():
            assert list(Job.objects.to_process("default")) == [urgent, overdue, first]
            assert Job.objects.get_ready_or_none("default") == urgent
            assert Job.objects.get_ready_or_none("default", max_retries=1) == urgent
            assert Job.objects.get_ready_or_none("empty") is None
            clock.tick(7200)
            assert list(Job.objects.to_process("default")) == [urgent, overdue, first, late]


def test_ready_jobs_come_in_the_order_of_the_worker():
    with freezegun.freeze_time(NOW):
        Job.objects.create(name="three", workspace={"n": 1})
        Job.objects.create(name="three", workspace={"n": 2}, priority=2)
        Job.objects.create(name="three", workspace={"n": 3}, priority=-2)
        Job.objects.create(name="three", workspace={"n": 4}, run_after=NOW - HOUR)
        with transaction.atomic():
            expected = [job.workspace["n"] for job in Job.objects.to_process("default")]
    done = []
    for _ in expected:
        run_jobs(limit=1)
        done += [
            job.workspace["n"]
            for job in Job.objects.filter(state="COMPLETE")
            if job.workspace["n"] not in done
        ]
    assert done == expected == [2, 4, 1, 3]


# Deleting.


def test_delete_old_removes_finished_jobs_of_more_than_a_day_with_their_history():
    states = sorted({*Job.STATES.values})
    with freezegun.freeze_time(NOW - 25 * HOUR):
        for state in states:
            Job.objects.create(name="plain", state=state)
        Job.objects.create(name="plain", state="STOPPING", workspace={"held": True})
        Job.objects.filter(workspace__held=True).update(claimed_by="worker", lease_until=NOW)
        ran = Job.objects.create(name="plain")
        run_jobs()
    with freezegun.freeze_time(NOW - 23 * HOUR):
        young = Job.objects.create(name="plain", state="COMPLETE")
    with freezegun.freeze_time(NOW):
        assert TaskRun.objects.filter(job=ran).count() == 1
        deleted = Job.objects.delete_old()
    left = sorted(Job.objects.exclude(pk=young.pk).values_list("state", flat=True))
    assert left == ["PROCESSING", "STOPPING", "WAITING"]
    assert deleted == 7 and Job.objects.filter(pk=young.pk).exists()
    assert not TaskRun.objects.filter(job_id=ran.pk).exists()


@pytest.mark.parametrize("hours", [-1, -0.5, float("nan")])
def test_delete_old_refuses_an_age_that_cannot_be(hours):
    job = Job.objects.create(name="plain", state=Job.STATES.COMPLETE)
    with pytest.raises(ValueError, match=f"a number of hours from 0 on, not {hours}"):
        Job.objects.delete_old(hours=hours)
    assert Job.objects.filter(pk=job.pk).exists()


def test_delete_old_takes_hours_and_zero_means_all():
    Job.objects.create(name="plain", state="COMPLETE")
    with freezegun.freeze_time(timezone.now() - 3 * HOUR):
        Job.objects.create(name="plain", state="FAILED")
    assert Job.objects.delete_old(hours=4) == 0
    assert Job.objects.delete_old(hours=2.5) == 1
    assert Job.objects.delete_old(hours=0) == 1


# Names.


def test_completed_is_another_name_for_complete():
    assert Job.STATES.COMPLETED is Job.STATES.COMPLETE == "COMPLETE"
    assert "COMPLETED" not in Job.STATES.names


def test_every_public_name_is_sorted_and_importable():
    assert django_dbq.__all__ == sorted(set(django_dbq.__all__))
    for name in django_dbq.__all__:
        assert getattr(django_dbq, name) is not None
    assert set(django_dbq.__all__) <= set(dir(django_dbq))
    assert {*django_dbq._HOME} == {*django_dbq.__all__}
    with pytest.raises(AttributeError, match="no attribute 'Jobb'"):
        _ = django_dbq.Jobb
    for name, home in django_dbq._HOME.items():
        assert getattr(importlib.import_module(f"django_dbq.{home}"), name) is getattr(django_dbq, name)


def test_the_helpers_of_the_original_tell_tasks_and_hooks(settings):
    settings.JOBS = {
        "all": {
            "tasks": ["a.one", {"task": "a.two"}, "a.three"],
            **{f"{kind}_hook": f"a.{kind}" for kind in ("creation", "pre_task", "post_task", "failure")},
        },
        "list": ["a.one"],
    }
    assert tasks.get_next_task_name("all") == "a.one"
    assert tasks.get_next_task_name("all", "a.one") == "a.two"
    assert tasks.get_next_task_name("all", "a.two") == "a.three"
    assert tasks.get_next_task_name("all", "a.three") is None
    assert tasks.get_creation_hook_name("all") == "a.creation"
    assert tasks.get_pre_task_hook_name("all") == "a.pre_task"
    assert tasks.get_post_task_hook_name("all") == "a.post_task"
    assert tasks.get_failure_hook_name("all") == "a.failure"
    assert tasks.get_failure_hook_name("list") is None
    with pytest.raises(UnknownJob, match="Did you mean 'list'"):
        tasks.get_next_task_name("lst")
    with pytest.raises(DBQError, match=r"JOBS\['list'\] has no task 'a\.two'; it has a\.one"):
        tasks.get_next_task_name("list", "a.two")


def test_a_job_with_a_row_of_the_project_is_created_with_it_or_not_at_all():
    with pytest.raises(IntegrityError), transaction.atomic():
        row = Row.objects.create(text="x")
        Job.objects.create(name="plain", workspace={"row": row.pk})
        Row.objects.create(pk=row.pk, text="again")
    assert not Row.objects.exists() and not Job.objects.exists()
