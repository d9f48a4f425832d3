"""Where a router sends reads to a replica that lags, what is written is read where it was written."""

from __future__ import annotations

import pytest

from django_dbq import Group, Job, schedule
from tests.calls import functions

pytestmark = pytest.mark.django_db(databases=["default", "jobs"])


@pytest.fixture(autouse=True)
def replica(settings):
    settings.DATABASE_ROUTERS = ["tests.routers.ReplicaRouter"]


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
