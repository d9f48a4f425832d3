"""trim: of the successes of one label, or one name, the newest are kept."""

import pytest

from django_dbq.models import Group, Job, TaskRun
from tests.store.helpers import ALIASES, NOW, make_job, make_jobs, seconds

pytestmark = pytest.mark.django_db(databases=ALIASES)


def ended(store, number, **columns):
    """Finished jobs, the newest first."""
    columns = {"state": "COMPLETE", **columns}
    return [make_job(store, finished=NOW - seconds(age), **columns) for age in range(number)]


def left(store):
    return set(Job.objects.using(store.using).values_list("pk", flat=True))


def keys(jobs):
    return {job.pk for job in jobs}


def test_the_newest_of_each_name_are_kept(store):
    fives, others = ended(store, 4, name="five"), ended(store, 3, name="nothing")
    assert store.trim(2) == 3
    assert left(store) == keys(fives[:2] + others[:2])
    assert store.trim(2) == 0


def test_the_newest_of_each_label_are_kept_whatever_their_names(store):
    one = ended(store, 2, label="a", name="five") + ended(store, 1, label="b", name="five")
    plain = ended(store, 1, name="five")
    assert store.trim(1) == 1
    assert left(store) == keys([one[0], one[2], *plain])


def test_the_history_goes_too(store):
    newest, oldest = ended(store, 2)
    now = NOW
    for job in (newest, oldest):
        TaskRun.objects.using(store.using).create(
            job_id=job.pk,
            claim=1,
            task="a.b",
            position=0,
            attempt=1,
            worker="w",
            started=now,
            finished=now,
            outcome="done",
        )
    store.trim(1)
    assert [run.job_id for run in TaskRun.objects.using(store.using).all()] == [newest.pk]


@pytest.mark.parametrize("state", ["NEW", "READY", "PROCESSING", "WAITING", "FAILED", "CANCELLED"])
def test_others_than_successes_stay(store, state):
    make_jobs(store, 3, state=state, finished=NOW)
    assert store.trim(1) == 0 and len(left(store)) == 3


def test_the_jobs_of_a_group_stay(store):
    group = Group.objects.using(store.using).create(reference="a")
    ended(store, 3, group=group)
    assert store.trim(1) == 0
