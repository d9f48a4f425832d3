"""remove_old_jobs: what ended long ago goes, and the next time is scheduled."""

from __future__ import annotations

import datetime

import freezegun
import pytest
from django.utils import timezone

from django_dbq import CallError, Group, Job, TaskRun, deschedule, remove_old_jobs, schedule
from django_dbq.testing import run_jobs

pytestmark = pytest.mark.django_db

PATH = "django_dbq.compat.django_async.remove_old_jobs"


def nothing():
    pass


def days(number):
    return datetime.timedelta(days=number)


def age(number, *jobs):
    """Make it so many days since these jobs ended; they were created long before."""
    now = timezone.now()
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(
        created=now - days(100), finished=now - days(number)
    )


def ended(number):
    """A call that was created long before it ended, so many days ago."""
    job = schedule(nothing)
    job.execute()
    age(number, job)
    return job


def left():
    """Return the jobs that are left, but those of remove_old_jobs."""
    return set(Job.objects.exclude(name=PATH))


def waiting():
    return [
        (job.call and job.state, round((job.run_after - timezone.now()).total_seconds() / 3_600, 2))
        for job in Job.objects.filter(name=PATH, state="NEW")
    ]


def test_it_goes_by_when_a_job_ended():
    ended(31)
    young = ended(29)
    remove_old_jobs()
    assert left() == {young} and TaskRun.objects.values_list("job", flat=True).get() == young.pk


def test_cancelled_and_failed_jobs_and_those_of_workflows_go_too():
    schedule(nothing)
    assert deschedule(nothing) == 1
    schedule("tests.workflows.boom", [None], meta={"retry": {"max_attempts": 1}})
    Job.objects.create(name="nothing")
    run_jobs()
    age(31, *Job.objects.all())
    kept = schedule(nothing)
    assert sorted(Job.objects.values_list("state", flat=True)) == ["CANCELLED", "COMPLETE", "FAILED", "NEW"]
    remove_old_jobs()
    assert left() == {kept}


def test_the_days_may_be_given():
    ended(3)
    kept = ended(1)
    remove_old_jobs(2)
    assert left() == {kept}


def test_a_group_stays_whole_until_all_of_it_ended_long_enough_ago():
    group = Group.objects.create(reference="import")
    Group.objects.update(created=timezone.now() - days(100))
    first, second = (schedule(nothing, group=group) for _ in range(2))
    final = schedule(nothing)
    group.on_completion(final)
    first.execute()
    age(50, first)
    remove_old_jobs()
    assert left() == {first, second, final}  # One has not run.
    second.execute()
    age(40, second)
    remove_old_jobs()
    assert left() == {first, second, final}  # The final one waits.
    assert run_jobs() == 1
    age(29, final)
    remove_old_jobs()
    assert left() == {first, second, final}  # It ended too lately.
    remove_old_jobs(28)
    assert not left() and not Group.objects.exists()


def test_it_schedules_itself_again():
    remove_old_jobs()
    assert waiting() == [("NEW", 8)]
    remove_old_jobs(30, 2.5)
    assert sorted(waiting()) == [("NEW", 2.5), ("NEW", 8)]


def test_one_waits_however_often_it_is_called():
    for _ in range(3):
        remove_old_jobs(30, 8)
    assert waiting() == [("NEW", 8)]


def test_it_works_as_a_job():
    ended(31)
    schedule(remove_old_jobs, args=[30, 8])
    schedule(remove_old_jobs, args=[30, 8])
    assert run_jobs() == 1  # Which has cancelled the other.
    assert not left() and waiting() == [("NEW", 8)]
    with freezegun.freeze_time(timezone.now() + datetime.timedelta(hours=9)):
        assert run_jobs() == 1
        assert waiting() == [("NEW", 8)]


@pytest.mark.parametrize(
    "args, message",
    [
        ([-1], "remove_jobs_before_days must be a number from 0 to 300000, not -1"),
        (["30"], "remove_jobs_before_days must be a number from 0 to 300000, not '30'"),
        ([True], "remove_jobs_before_days must be a number from 0 to 300000, not True"),
        ([float("nan")], "remove_jobs_before_days must be a number from 0 to 300000, not nan"),
        ([30, 0], "resched_hours must be a number from 0.1 to 300000, not 0"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused_before_anything_is_deleted(args, message):
    ended(40)
    with pytest.raises(CallError, match=message):
        remove_old_jobs(*args)
    assert left() and not Job.objects.filter(name=PATH).exists()
