"""trim: of the successes of one label, or one name, or of some queues, the newest are kept."""

import pytest

from django_dbq.models import Group, Job, TaskRun
from django_dbq.store import pruning
from django_dbq.worker import upkeep
from django_dbq.worker.settings import WorkerSettings
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


def test_of_queues_the_newest_of_all_are_kept_and_other_queues_are_left_alone(store):
    newest = ended(store, 2, name="five", label="a", title="t")
    others = [*ended(store, 3, queue_name="other"), *ended(store, 3, state="FAILED")]
    for name, label in (("five", "b"), ("nothing", None)):
        make_job(store, state="COMPLETE", finished=NOW - seconds(9), name=name, label=label)
    assert store.trim_queues(["default"], 2, None) == 2
    assert left(store) == keys([*newest, *others])
    assert store.trim_queues(["default"], 2, None) == 0


def test_or_of_each_label_where_those_without_count_together(store):
    one, two = ended(store, 2, label="a", name="five"), ended(store, 2, label="b", name="five")
    plain = [*ended(store, 2, name="five"), make_job(store, state="COMPLETE", finished=NOW - seconds(9))]
    assert store.trim_queues(["default"], 1, "label") == 4
    assert left(store) == keys([one[0], two[0], plain[0]])


def test_or_of_each_name_whatever_the_label(store):
    fives = ended(store, 2, name="five", label="a") + ended(store, 1, name="five", label="b")
    other = ended(store, 1, name="nothing", label="a")
    assert store.trim_queues(["default"], 2, "name") == 1
    assert len(left(store) & keys(fives)) == 2 and keys(other) <= left(store)


def test_or_of_each_title_and_those_without_one_stay(store):
    named, plain = ended(store, 3, title="report"), ended(store, 3)
    assert store.trim_queues(["default"], 1, "title") == 2
    assert left(store) == keys([named[0], *plain])


@pytest.mark.parametrize("per", [None, "label", "name"])
def test_of_queues_too_the_jobs_of_a_group_stay(store, per):
    group = Group.objects.using(store.using).create(reference="a")
    ended(store, 3, group=group)
    assert store.trim_queues(["default"], 1, per) == 0


@pytest.mark.parametrize("limits", [{"SAVE_LIMIT": 1}, {}])
def test_a_worker_goes_on_trimming_in_its_next_round_where_a_batch_was_full(
    store, settings, monkeypatch, limits
):
    for module in (pruning, upkeep):
        monkeypatch.setattr(module, "TRIM_BATCH", 2)
    settings.DBQ = {**getattr(settings, "DBQ", {}), **limits}
    ended(store, 7)
    own = {} if limits else {"queue_names": ("default",), "save_limit": 1}
    kept = upkeep.Upkeep(store, "one", WorkerSettings(using=store.using, **own))
    for _ in range(3):
        kept.run()
    assert len(left(store)) == 1
