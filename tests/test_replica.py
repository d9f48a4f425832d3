"""Where a router sends reads to a replica that lags, what is written is read where it was written."""

from __future__ import annotations

import pytest
from django.db import models

from django_dbq import Group, Job, results, schedule
from tests.calls import functions

pytestmark = pytest.mark.django_db(databases=["default", "jobs"])


@pytest.fixture(autouse=True)
def replica(settings):
    settings.DATABASE_ROUTERS = ["tests.routers.ReplicaRouter"]


def from_replica(row):
    """Return a row as it is read once the replica has followed."""
    models.Model.save_base(
        type(row).objects.using("default").get(pk=row.pk), raw=True, using="jobs", force_insert=True
    )
    read = type(row).objects.get(pk=row.pk)
    assert read._state.db == "jobs"
    return read


def states(using):
    return set(Job.objects.using(using).values_list("state", flat=True))


def test_a_final_job_is_set():
    schedule(functions.nothing, group="a")
    group = Group.latest_group_by_reference("a")
    group.on_completion(schedule(functions.nothing))
    assert group.final.state == "WAITING"


def test_jobs_are_created_into_a_group_at_once():
    group = Group.objects.create(reference="a")
    Job.objects.bulk_create([Job(name="five", group=group) for _ in range(3)])
    assert Job.objects.using("default").filter(group=group).count() == 3


def test_a_job_is_retried():
    job = Job.objects.create(name="five")
    job.cancel()
    assert job.retry() and job.state == "READY"


def test_a_job_that_was_read_from_the_replica_is_cancelled_and_retried_where_jobs_are_written():
    job = from_replica(Job.objects.create(name="five"))
    assert job.cancel() and (states("default"), states("jobs")) == ({"CANCELLED"}, {"NEW"})
    job = Job.objects.get()
    assert job.retry() and job.state == "READY"
    assert (states("default"), states("jobs")) == ({"READY"}, {"NEW"})


def test_a_call_that_was_read_from_the_replica_is_executed_where_jobs_are_written():
    job = from_replica(schedule(functions.nothing))
    job.execute()
    assert job.state == "COMPLETE"
    assert (states("default"), states("jobs")) == ({"COMPLETE"}, {"NEW"})


def test_a_group_that_was_read_from_the_replica_takes_jobs_and_a_final_one_where_it_is_written():
    group = from_replica(Group.objects.create(reference="a"))
    schedule(functions.nothing, group=group)
    final = schedule(functions.nothing)
    group.on_completion(final)
    group = Group.objects.using("default").get()
    assert (group.jobs.using("default").count(), group.final_id) == (2, final.pk)
    assert not Job.objects.using("jobs").exists()


def test_a_group_that_was_read_from_the_replica_keeps_the_rules_of_where_it_is_written():
    group = from_replica(Group.objects.create(reference="a"))
    group.final = schedule(functions.nothing)
    group.save()
    assert (states("default"), states("jobs")) == ({"WAITING"}, set())


def test_a_task_that_was_read_from_the_replica_takes_its_group_apart_where_jobs_are_written():
    job = from_replica(Job.objects.create(name="nothing", label="a", state="COMPLETE"))
    assert results.of(job).group_delete(tasks=True) == 1
    assert (states("default"), states("jobs")) == (set(), {"COMPLETE"})
