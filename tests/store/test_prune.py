import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_dbq.models import Group, Job, TaskRun
from django_dbq.store import get_store, pruning
from tests.store.helpers import (
    ALIASES,
    NOW,
    SERVERS,
    a_run,
    claimed,
    clock,
    columns,
    locked,
    make_job,
    make_jobs,
    record,
    runs,
    seconds,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)

OLD = NOW - seconds(3600)


def pruned(store, **values):
    return store.prune(NOW, **values).jobs.total()


def batch(store, limit):
    return store._prune_batch(NOW, since=None, states=pruning.PRUNED_STATES, limit=limit)


def left(store):
    return set(Job.objects.using(store.using).values_list("id", flat=True))


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED", "CANCELLED", "STOPPING"])
def test_what_is_over_and_was_created_before_is_deleted(store, state):
    # STOPPING without a lease is what a worker of the original package left behind.
    make_job(store, state=state, created=OLD)
    make_job(store, state=state, created=NOW)
    later = make_job(store, state=state, created=NOW + seconds(1))
    assert pruned(store) == 2
    assert left(store) == {later.id}


@pytest.mark.parametrize("state", ["NEW", "READY", "PROCESSING", "WAITING"])
def test_what_is_not_over_stays_however_old(store, state):
    job = make_job(store, state=state, created=OLD)
    assert pruned(store) == 0
    assert left(store) == {job.id}


@pytest.mark.parametrize("stopping", [True, False])
def test_a_job_that_is_held_stays(store, stopping):
    job = claimed(store, created=OLD)
    store.extend([job], worker="one", lease_seconds=60, stopping=stopping)
    before = columns(store, job)
    assert pruned(store) == 0
    assert columns(store, job) == before


def test_history_goes_with_its_job_and_other_history_stays(store):
    job, other = claimed(store, created=OLD), claimed(store)
    record(
        store,
        transition(job, "COMPLETE", run=a_run(job)),
        transition(other, "COMPLETE", run=a_run(other)),
    )
    Job.objects.using(store.using).filter(pk=other.pk).update(created=NOW + seconds(1))
    assert pruned(store) == 1
    assert runs(store, job) == [] and len(runs(store, other)) == 1


def test_many_are_deleted_in_bounded_batches(store):
    made = make_jobs(store, 25, state="COMPLETE", created=OLD)
    TaskRun.objects.using(store.using).bulk_create(
        TaskRun(job=job, claim=1, position=0, attempt=1, started=OLD, finished=OLD) for job in made
    )
    assert [len(batch(store, 10)) for _ in range(2)] == [10, 10]
    assert TaskRun.objects.using(store.using).count() == 5
    assert pruned(store) == 5
    assert left(store) == set() and not TaskRun.objects.using(store.using).exists()


def test_the_oldest_go_first(store):
    newer = make_job(store, state="FAILED", created=OLD + seconds(1))
    make_job(store, state="FAILED", created=OLD)
    assert len(batch(store, 1)) == 1
    assert left(store) == {newer.id}


def test_nothing_to_delete_is_no_error(store):
    assert pruned(store) == 0


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_jobs_that_another_holds_locked_stay_and_keep_no_one_waiting(store):
    job, _ = make_jobs(store, 2, state="COMPLETE", created=OLD)
    with locked(store, job):
        assert pruned(store) == 1
    assert left(store) == {job.id}


def test_it_tells_how_many_went_by_state(store):
    make_jobs(store, 2, state="COMPLETE", created=OLD)
    make_job(store, state="FAILED", created=OLD)
    gone = store.prune(NOW)
    assert (gone.jobs, gone.groups) == ({"COMPLETE": 2, "FAILED": 1}, 0)


def test_the_states_may_be_chosen(store):
    made = {state: make_job(store, state=state, created=OLD).id for state in pruning.PRUNED_STATES}
    assert store.prune(NOW, states=["FAILED", "CANCELLED"]).jobs == {"FAILED": 1, "CANCELLED": 1}
    assert left(store) == {made["COMPLETE"], made["STOPPING"]}


@pytest.mark.parametrize("count, limit", [(7, 3), (6, 3), (1, 1)])
def test_no_batch_is_larger_than_asked_for(store, monkeypatch, count, limit):
    make_jobs(store, count, state="COMPLETE", created=OLD)
    sizes, original = [], store._prune_batch

    def batch(before, **values):
        found = original(before, **values)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(store, "_prune_batch", batch)
    assert pruned(store, limit=limit) == count
    assert max(sizes) == limit and not left(store)


# Groups.


def make_group(store, reference="g", created=OLD):
    group = Group.objects.using(store.using).create(reference=reference)
    Group.objects.using(store.using).filter(pk=group.pk).update(created=created)
    return group


def in_group(store, group, state="COMPLETE", created=OLD, **columns):
    return make_job(store, state=state, group=group, created=created, **columns)


def groups(store):
    return set(Group.objects.using(store.using).values_list("reference", flat=True))


ENDS = ["created", "finished"]


def prune(store, column, before=NOW):
    """Prune by either of the two times that may count."""
    return store.prune(before) if column == "created" else store.prune_ended(before)


@pytest.mark.parametrize("column", ENDS)
@pytest.mark.parametrize("state", ["NEW", "READY", "PROCESSING", "STOPPING", "WAITING"])
def test_the_jobs_of_a_group_stay_while_one_of_them_is_not_finished(store, column, state):
    group = make_group(store)
    ended = [in_group(store, group, state, finished=OLD) for state in ("COMPLETE", "FAILED", "CANCELLED")]
    last = in_group(store, group, state)
    assert prune(store, column) == pruning.Pruned({}, 0)
    assert left(store) == {job.id for job in [*ended, last]} and groups(store) == {"g"}
    Job.objects.using(store.using).filter(pk=last.pk).update(state="COMPLETE", finished=OLD)
    gone = prune(store, column)
    assert gone == pruning.Pruned({"COMPLETE": 2, "FAILED": 1, "CANCELLED": 1}, 1)
    assert not left(store) and not groups(store)


@pytest.mark.parametrize("column", ENDS)
def test_a_group_goes_as_a_whole_once_all_its_jobs_are_old(store, column):
    group, other = make_group(store), make_group(store, "other")
    old = in_group(store, group, finished=OLD)
    young = in_group(store, group, **{"finished": OLD, column: NOW + seconds(1)})
    in_group(store, other, finished=OLD)
    assert prune(store, column) == pruning.Pruned({"COMPLETE": 1}, 1)
    assert left(store) == {old.id, young.id} and groups(store) == {"g"}


@pytest.mark.parametrize("column", ENDS)
def test_groups_are_deleted_once_they_have_no_jobs(store, column):
    make_group(store, "empty and old")
    make_group(store, "empty and young", created=NOW + seconds(1))
    assert prune(store, column) == pruning.Pruned({}, 1)
    assert groups(store) == {"empty and young"}


def test_a_group_of_which_only_some_states_are_deleted_stays(store):
    group = make_group(store)
    kept, final = in_group(store, group, "FAILED"), in_group(store, group, "COMPLETE")
    Group.objects.using(store.using).filter(pk=group.pk).update(final=final)
    assert store.prune(NOW, states=["COMPLETE"]) == pruning.Pruned({"COMPLETE": 1}, 0)
    assert left(store) == {kept.id}
    group.refresh_from_db()
    assert group.final_id is None


def test_a_big_group_and_many_groups_are_deleted_in_bounded_batches(store):
    group = make_group(store)
    make_jobs(store, 5, state="COMPLETE", created=OLD, group=group)
    for number in range(5):
        in_group(store, make_group(store, f"group {number}"))
    kept = in_group(store, make_group(store, "kept"), "READY")
    with CaptureQueriesContext(
        connections[store.using],
    ) as queries:
        assert store.prune(NOW, limit=2) == pruning.Pruned({"COMPLETE": 10}, 6)
    deletes = [query["sql"] for query in queries if "DELETE FROM" in query["sql"]]
    assert deletes and left(store) == {kept.id} and groups(store) == {"kept"}


def test_the_history_of_a_group_goes_too(store):
    job = claimed(store)
    record(store, transition(job, "COMPLETE", run=a_run(job)))
    Job.objects.using(store.using).update(group=make_group(store), created=OLD)
    assert pruned(store) == 1
    assert not runs(store, job)


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED", "CANCELLED"])
def test_prune_ended_goes_by_when_a_job_ended(store, state):
    make_job(store, state=state, created=OLD, finished=NOW)
    late = make_job(store, state=state, created=OLD, finished=NOW + seconds(1))
    assert store.prune_ended(NOW) == pruning.Pruned({state: 1}, 0)
    assert left(store) == {late.id}


def test_prune_ended_deletes_more_than_one_batch(store, monkeypatch):
    monkeypatch.setattr(pruning, "PRUNE_BATCH", 3)
    for number in range(8):
        make_job(store, state="COMPLETE", finished=OLD - seconds(number // 4))
    assert store.prune_ended(NOW) == pruning.Pruned({"COMPLETE": 8}, 0)


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
@pytest.mark.parametrize("column", ENDS)
def test_a_group_that_another_holds_locked_stays_and_keeps_no_one_waiting(store, column):
    group = make_group(store)
    job, _ = (in_group(store, group, finished=OLD) for _ in range(2))
    with locked(store, job):
        assert prune(store, column) == pruning.Pruned({"COMPLETE": 1}, 0)
    assert left(store) == {job.id} and groups(store) == {"g"}
    assert prune(store, column) == pruning.Pruned({"COMPLETE": 1}, 1)


FILL_GROUPS = """
INSERT INTO django_dbq_group (reference, created) SELECT n, now() - interval '2 days'
    FROM generate_series(1, 500) AS n
"""
FILL_JOBS = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name, priority,
    finished, group_id)
SELECT gen_random_uuid(), at, at, 'nothing', CASE WHEN n % 20 = 0 THEN 'READY' ELSE 'COMPLETE' END, '', '{}',
    'default', 0, CASE WHEN n % 20 <> 0 THEN at END,
    CASE WHEN n % 2 = 0 THEN (SELECT min(id) FROM django_dbq_group) + n / 2 % 500 END
FROM (SELECT n, now() - interval '1 day' + n * interval '1 millisecond' AS at
      FROM generate_series(1, 50000) AS n) AS made
"""
FILL_RUNS = """
INSERT INTO django_dbq_taskrun (job_id, claim, task, position, attempt, worker, started, finished, outcome)
SELECT id, 1, '', 0, 1, '', created, created, 'done' FROM django_dbq_job
"""


@pytest.mark.postgresql
@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("column", ENDS)
def test_no_statement_reads_the_whole_job_table(column, analyzed, db):
    """50,000 jobs, half of them in 500 groups of which each tenth is not done."""
    store, connection = get_store("default"), connections["default"]
    with connection.cursor() as cursor:
        cursor.execute(FILL_GROUPS)
        cursor.execute(FILL_JOBS)
        cursor.execute(FILL_RUNS)
        if analyzed:
            cursor.execute("ANALYZE django_dbq_job, django_dbq_taskrun")
    before = clock(store)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        gone = prune(store, column, before)
        transaction.set_rollback(True)
    assert (gone.jobs, gone.groups) == ({"COMPLETE": 47_500}, 450)
    with connection.cursor() as cursor:
        for sql in {query["sql"] for query in queries if "django_dbq_job" in query["sql"]}:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert (
                "Seq Scan on django_dbq_job" not in plan and "Seq Scan on django_dbq_taskrun" not in plan
            ), plan
