"""What a project written for django-async does, with nothing changed but the import.

The first test is the usage section of its README, call for call; its shell loop is in
tests/commands/test_flush_queue.py.
"""

from __future__ import annotations

import datetime
import json

import pytest
from django.db import transaction
from django.utils import timezone

from django_dbq import Group, GroupError, Job, deschedule, health, schedule
from django_dbq.testing import run_jobs
from tests.models import Row

pytestmark = pytest.mark.django_db(transaction=True)

MODULE = """
def function(*args, **kwargs):
    from tests.models import Row

    Row.objects.create(text=f"{args} {kwargs}")


def fails():
    raise ValueError("not today")
"""


@pytest.fixture(autouse=True)
def my(tmp_path, monkeypatch):
    """The module `my` of the README, for this process and those that it starts."""
    (tmp_path / "my.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def texts():
    return [row.text for row in Row.objects.order_by("id")]


def test_the_usage_of_its_readme(manage):
    schedule("my.function", args=(1, 2, 3), kwargs=dict(key="value"))  # noqa: C408  # As it stands there.

    assert manage("flush_queue").wait() == 0
    assert texts() == ["(1, 2, 3) {'key': 'value'}"]

    # "but will exit early if any job throws an exception"
    failing = schedule("my.fails", priority=9)
    schedule("my.function", args=("after the failure",))
    assert manage("flush_queue").wait() == 1
    assert texts() == ["(1, 2, 3) {'key': 'value'}"]

    # "A failed task will be re-scheduled for later execution."
    failing.refresh_from_db()
    assert (failing.state, failing.priority, failing.error) == ("READY", 8, "ValueError: not today")
    assert 50 < (failing.run_after - timezone.now()).total_seconds() <= 60
    assert manage("flush_queue").wait() == 0
    assert texts()[1:] == ["('after the failure',) {}"]

    # "schedule(function, args = None, kwargs = None, run_after= None, meta = None, priority = 5)"
    job = schedule("my.function", ["in this order"], {"a": 1}, timezone.now(), {}, 7)
    assert isinstance(job, Job)
    assert job.priority == 7
    job.execute()
    assert texts()[2:] == ["('in this order',) {'a': 1}"]

    # "deschedule(function, args = None, kwargs = None)"
    schedule("my.function", args=[1], kwargs={"a": 1, "b": 2})
    schedule("my.function", args=[2])
    assert deschedule("my.function", args=[1], kwargs={"b": 2, "a": 1}) == 1
    assert manage("flush_queue").wait() == 0
    assert texts()[3:] == ["(2,) {}"]

    # "info = health()", "which can be used for monitoring"
    info = health()
    assert json.loads(json.dumps(info)) == info


def test_a_pass_keeps_to_the_order_of_its_readme(manage):
    """Priority, then scheduled time with the unscheduled last, then the order they were added in."""
    now = timezone.now()
    for text, options in [
        ("5: added first", {"priority": 1}),
        ("3: no time, added first", {}),
        ("4: no time, added second", {}),
        ("2: later", {"run_after": now - datetime.timedelta(minutes=1)}),
        ("1: sooner", {"run_after": now - datetime.timedelta(minutes=2)}),
        ("0: urgent", {"priority": 9}),
        ("never: not due", {"run_after": now + datetime.timedelta(hours=1), "priority": 9}),
    ]:
        schedule("my.function", args=[text], **options)
    assert manage("flush_queue").wait() == 0
    assert [text[2] for text in texts()] == ["0", "1", "2", "3", "4", "5"]


def test_passes_alone_run_the_final_job_of_a_group_after_the_others(manage):
    group = Group.objects.create(reference="import")
    with transaction.atomic():
        group.on_completion(schedule("my.function", args=["final"], priority=9))
        schedule("my.function", args=["one"], group="import")
        schedule("my.function", args=["two"], group=group)
    for _ in range(2):
        assert manage("flush_queue").wait() == 0
    assert texts() == ["('one',) {}", "('two',) {}", "('final',) {}"]
    assert group.has_completed()


def test_in_a_projects_tests_run_jobs_runs_calls_and_final_jobs():
    group = Group.objects.create(reference="import")
    with transaction.atomic():
        group.on_completion(schedule("my.function", args=["final"], priority=9))
        schedule("my.function", args=["one"], group=group)
    assert run_jobs() == 2
    assert texts() == ["('one',) {}", "('final',) {}"]


def test_a_group_may_be_created_with_its_final_job():
    with transaction.atomic():
        group = Group.objects.create(reference="import", final=schedule("my.function", args=["final"]))
        schedule("my.function", args=["one"], group=group)
    assert run_jobs() == 2
    assert texts() == ["('one',) {}", "('final',) {}"]
    schedule("my.function").execute()
    with pytest.raises(GroupError, match="cannot be the final one of group 'other'"):
        Group.objects.create(reference="other", final=Job.objects.get(group=None))
    assert Group.objects.get() == group
