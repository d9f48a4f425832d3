"""What people set on the rows of groups and jobs by hand goes by the same rules."""

from __future__ import annotations

import pytest

from django_dbq import Group, GroupError, Job, schedule
from django_dbq.testing import run_jobs
from tests.calls import functions

pytestmark = pytest.mark.django_db


@pytest.fixture
def group():
    schedule(functions.nothing, group="a")
    return Group.objects.get(reference="a")


def test_a_final_job_that_is_assigned_waits_for_the_others(group):
    group.final = schedule(functions.nothing)
    group.save()
    assert Job.objects.get(pk=group.final_id).state == "WAITING"
    assert run_jobs() == 2


def test_a_group_keeps_its_reference(group):
    group.reference = "b"
    with pytest.raises(GroupError, match="keeps its reference"):
        group.save()


def test_other_fields_of_a_group_are_written(group):
    group.description = "said"
    group.save()
    assert Group.objects.get().description == "said"


def test_a_job_that_exists_is_not_moved_into_a_group(group):
    job = schedule(functions.nothing)
    job.group = group
    with pytest.raises(GroupError, match="when it is created"):
        job.save()
    with pytest.raises(GroupError, match="when it is created"):
        job.save(update_fields=["group"])
    job.refresh_from_db()
    job.save()
    assert job.group is None
