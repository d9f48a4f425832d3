"""manage.py delete_old_jobs: finished jobs go, with their history and their groups."""

from __future__ import annotations

import datetime
from collections import Counter
from io import StringIO

import freezegun
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from django_dbq import Group, Job, TaskRun, schedule
from django_dbq.store import pruning
from django_dbq.testing import run_jobs

pytestmark = pytest.mark.django_db


def nothing():
    pass


def said(*args, **options):
    out = StringIO()
    call_command("delete_old_jobs", *args, stdout=out, **options)
    return out.getvalue()


def ago(hours):
    return freezegun.freeze_time(timezone.now() - datetime.timedelta(hours=hours))


def create(hours, using="default", **values):
    with ago(hours):
        return Job.objects.using(using).create(name="nothing", **{"state": "COMPLETE", **values})


def test_a_day_is_kept_unless_told_otherwise():
    create(25)
    young = create(23)
    assert said() == "Deleted old jobs: 1 (COMPLETE 1)\n"
    assert Job.objects.get() == young


def test_hours_may_be_given_and_zero_means_zero():
    create(3)
    create(1)
    assert said("--hours", "2") == "Deleted old jobs: 1 (COMPLETE 1)\n"
    assert said(hours=0) == "Deleted old jobs: 1 (COMPLETE 1)\n"
    assert said("--hours=0") == "Deleted old jobs: 0\n"


def test_days_may_be_given_and_zero_means_zero():
    create(49)
    create(47)
    assert said("--days", "2") == "Deleted old jobs: 1 (COMPLETE 1)\n"
    assert said(days=0) == "Deleted old jobs: 1 (COMPLETE 1)\n"


def test_what_is_not_finished_stays():
    for state in Job.STATES.values:
        create(48, state=state)
    create(48, state="STOPPING", claimed_by="worker", lease_until=timezone.now())
    assert said("--hours=0") == "Deleted old jobs: 4 (CANCELLED 1, COMPLETE 1, FAILED 1, STOPPING 1)\n"
    assert sorted(Job.objects.values_list("state", flat=True)) == [
        "NEW",
        "PROCESSING",
        "READY",
        "STOPPING",
        "WAITING",
    ]


def test_states_may_be_chosen():
    for state in Job.STATES.values:
        create(48, state=state)
    assert said("--state", "FAILED") == "Deleted old jobs: 1 (FAILED 1)\n"
    chosen = said("--state=FAILED", "--state=COMPLETE", "--state=CANCELLED")
    assert chosen == "Deleted old jobs: 2 (CANCELLED 1, COMPLETE 1)\n"
    assert Job.objects.filter(state="STOPPING").exists()


def test_the_history_goes_too():
    job = Job.objects.create(name="five")
    run_jobs()
    assert TaskRun.objects.filter(job=job).count() == 5
    said("--hours=0")
    assert not TaskRun.objects.exists()


def test_more_than_one_batch_is_deleted(monkeypatch):
    monkeypatch.setattr(pruning, "PRUNE_BATCH", 2)
    for _ in range(5):
        create(48)
    assert said() == "Deleted old jobs: 5 (COMPLETE 5)\n"


def test_the_size_of_a_batch_may_be_given():
    for _ in range(4):
        create(48)
    batches = Counter()

    def look(execute, sql, *args):
        found = execute(sql, *args)
        batches["deletes"] += "DELETE FROM" in sql and "django_dbq_job" in sql
        return found

    with connection.execute_wrapper(look):
        assert said("--batch", "2") == "Deleted old jobs: 4 (COMPLETE 4)\n"
    assert batches["deletes"] >= 2


def test_a_group_goes_with_its_last_job_and_not_before():
    with ago(48):
        group = Group.objects.create(reference="import")
        jobs = [schedule(nothing, group=group) for _ in range(2)]
        jobs[0].execute()
        group.on_completion(schedule(nothing))
    assert said("--hours=0") == "Deleted old jobs: 0\n"
    assert Job.objects.count() == 3 and Group.objects.exists()
    with ago(47):
        run_jobs()
    assert said() == "Deleted old jobs: 3 (COMPLETE 3)\nDeleted groups: 1\n"
    assert not Job.objects.exists() and not Group.objects.exists() and not TaskRun.objects.exists()


@pytest.mark.parametrize(
    "args, message",
    [
        (["--hours", "many"], "argument --hours: must be a whole number from 0 to 300000, not 'many'"),
        (["--hours=-1"], "argument --hours: must be a whole number from 0 to 300000, not '-1'"),
        (["--days", "1.5"], "argument --days: must be a whole number from 0 to 300000, not '1.5'"),
        (["--days", "300001"], "argument --days: must be a whole number from 0 to 300000, not '300001'"),
        (["--hours=1", "--days=1"], "--hours and --days say the same thing twice; give one of them"),
        (["--batch", "0"], "argument --batch: must be a whole number from 1 on, not '0'"),
        (["--state", "NEW"], "argument --state: invalid choice: 'NEW' .choose from '?COMPLETE'?, '?FAILED"),
        (["--state", "COMPLETED"], "argument --state: invalid choice: 'COMPLETED'"),
    ],
)
def test_what_cannot_be_used_is_refused(args, message):
    create(48)
    with pytest.raises(CommandError, match=message):
        said(*args)
    assert Job.objects.exists()


def test_the_longest_time_is_taken():
    create(48)
    assert said("--days", "300000") == "Deleted old jobs: 0\n"


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    create(48)
    create(48, using="jobs")
    create(48, using="jobs")
    assert said("--database", "jobs") == "Deleted old jobs: 2 (COMPLETE 2)\n"
    assert Job.objects.count() == 1
