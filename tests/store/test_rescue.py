import pytest

from django_dbq.models import Job
from django_dbq.store import base
from tests.store.helpers import (
    ALIASES,
    LEASE,
    NOW,
    SERVERS,
    a_run,
    claim,
    claimed,
    clock,
    columns,
    locked,
    make_job,
    record,
    reread,
    runs,
    seconds,
    together,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)
committed = pytest.mark.django_db(databases=ALIASES, transaction=True)


def rescue(store, *, worker="rescuer", lost_attempts_max=3, lease_seconds=LEASE, now=None):
    """Return how many are ready again, and those that were lost too often."""
    ready, spent = store.rescue(
        worker=worker, lease_seconds=lease_seconds, lost_attempts_max=lost_attempts_max, now=now
    )
    return len(ready), spent


def lost(store, **columns):
    """A job whose worker was last seen an hour ago."""
    return claimed(store, now=clock(store) - seconds(3600), **columns)


def test_a_job_whose_lease_ran_out_is_ready_again(store):
    job = lost(store, workspace={"a": 1})
    before = clock(store)
    assert rescue(store) == (1, [])
    row = reread(store, job)
    assert (row.state, row.claimed_by, row.lease_until) == ("READY", None, None)
    assert (row.claim, row.attempt, row.lost_attempts) == (1, 1, 1)
    assert row.error == "WorkerLost: the lease of one ran out"
    assert (row.next_task, row.position, row.workspace) == (job.next_task, 0, {"a": 1})
    assert before <= row.modified <= clock(store)


def test_the_lost_attempt_is_history(store):
    job = lost(store)
    before = clock(store)
    rescue(store)
    (run,) = runs(store, job)
    assert (run.task, run.position, run.attempt, run.claim) == (job.next_task, 0, 1, 1)
    assert (run.worker, run.outcome) == ("one", "lost")
    assert run.error == "WorkerLost: the lease of one ran out" and run.changes is None
    assert run.started == job.started and before <= run.finished <= clock(store)


def test_a_rescued_job_is_fenced_from_its_former_worker(store):
    job = lost(store)
    rescue(store)
    before = columns(store, job)
    assert record(store, transition(job, "COMPLETE", run=a_run(job))) == {}
    assert store.extend([job], worker="one", lease_seconds=60) == {}
    assert columns(store, job) == before
    (mine,) = claim(store, worker="two")
    assert (mine.id, mine.claim, mine.attempt, mine.lost_attempts) == (job.id, 2, 2, 1)
    assert mine.prior_state == "READY"


def test_a_job_shown_as_stopping_is_rescued_too(store):
    job = lost(store)
    store.extend([job], worker="one", lease_seconds=-60, stopping=True)
    assert reread(store, job).state == "STOPPING"
    assert rescue(store) == (1, [])


@pytest.mark.parametrize("lost_attempts_max, state", [(3, "READY"), (1, "PROCESSING")])
def test_a_lease_that_somebodys_sql_has_made_nobodys_is_rescued_like_any_other(
    store, lost_attempts_max, state
):
    job, other = lost(store), lost(store)
    Job.objects.using(store.using).filter(pk=job.pk).update(claimed_by=None)
    ready, spent = rescue(store, lost_attempts_max=lost_attempts_max)
    assert ready + len(spent) == 2
    assert (reread(store, job).state, reread(store, other).state) == (state, state)
    (run,) = runs(store, job)
    assert (run.worker, run.outcome) == ("an unknown worker", "lost")
    assert reread(store, job).error == run.error == "WorkerLost: the lease of an unknown worker ran out"


def test_a_lease_that_lasts_is_left_alone(store):
    job = claimed(store)
    before = columns(store, job)
    assert rescue(store) == (0, [])
    assert columns(store, job) == before


@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING"])
def test_a_job_that_the_original_runs_is_left_alone(store, state):
    job = make_job(store, state=state, modified=NOW - seconds(10**8))
    before = columns(store, job)
    assert rescue(store) == (0, [])
    assert columns(store, job) == before


def test_a_job_lost_too_often_is_held_by_its_rescuer_to_be_failed(store):
    job = lost(store, lost_attempts=2, attempt=2, workspace={"a": 1}, plan=["x"])
    before = clock(store)
    ready, (spent,) = rescue(store, lost_attempts_max=3, lease_seconds=50)
    assert ready == 0
    row = columns(store, job)
    assert (row["state"], row["claimed_by"], row["claim"]) == ("PROCESSING", "rescuer", 2)
    assert (row["attempt"], row["lost_attempts"]) == (3, 3)
    assert before + seconds(50) <= row["lease_until"] <= clock(store) + seconds(50)
    assert row["error"] == "WorkerLost: the lease of one ran out"
    row["plan"] = tuple(row["plan"])
    assert {name: getattr(spent, name) for name in row} == row
    assert spent.spent and spent.prior_state == "READY" and spent.workspace == {"a": 1}
    assert [run.outcome for run in runs(store, job)] == ["lost"]
    failed = transition(spent, "FAILED", error="WorkerLost")
    assert record(store, failed, worker="rescuer") == {job.id: "FAILED"}


def test_a_job_is_lost_as_often_as_allowed_and_no_more(store):
    make_job(store)
    for number in (1, 2, 3):
        assert len(claim(store, now=NOW)) == 1
        ready, spent = rescue(store, lost_attempts_max=3, now=NOW + seconds(LEASE + 1))
        assert (ready, len(spent)) == ((1, 0) if number < 3 else (0, 1))


def test_with_one_attempt_allowed_the_first_loss_is_the_last(store):
    lost(store)
    ready, spent = rescue(store, lost_attempts_max=1)
    assert (ready, len(spent)) == (0, 1)


def test_a_spent_job_that_its_rescuer_gives_back_is_spent_for_the_next_worker_too(store):
    lost(store, lost_attempts=2, attempt=2)
    _, (spent,) = rescue(store)
    store.release([spent], worker="rescuer")
    (mine,) = claim(store, worker="three")
    assert mine.spent and (mine.attempt, mine.lost_attempts) == (3, 3)


def test_a_rescuer_that_dies_is_rescued(store):
    job = lost(store, lost_attempts=2)
    rescue(store, worker="two", lease_seconds=-60)
    ready, (spent,) = rescue(store, worker="three")
    assert (ready, spent.claimed_by, spent.claim) == (0, "three", 3)
    assert [run.worker for run in runs(store, job)] == ["one", "two"]


def test_what_ran_out_is_told_by_the_time_that_the_caller_gives(store):
    job = claimed(store, now=NOW)
    assert rescue(store, now=NOW + seconds(LEASE)) == (0, [])
    assert rescue(store, now=NOW + seconds(LEASE + 1)) == (1, [])
    assert reread(store, job).modified == NOW + seconds(LEASE + 1)
    assert runs(store, job)[0].finished == NOW + seconds(LEASE + 1)


def test_what_was_lost_and_what_was_spent_are_rescued_together(store):
    jobs = [lost(store, lost_attempts=number % 3) for number in range(6)]
    ready, spent = rescue(store, lost_attempts_max=3)
    assert ready == 4
    assert {job.id for job in spent} == {jobs[2].id, jobs[5].id}


def test_a_batch_is_bounded(store):
    count = base.RESCUE_BATCH + 3
    Job.objects.using(store.using).bulk_create([Job(name="five") for _ in range(count)])
    claim(store, limit=count, now=NOW)
    later = NOW + seconds(3600)
    assert rescue(store, now=later) == (base.RESCUE_BATCH, [])
    assert rescue(store, now=later) == (3, [])


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled_and_not_run_again(store):
    job, spent = lost(store), lost(store, lost_attempts=2)
    store.cancel([job.id, spent.id])
    assert rescue(store)[1] == []
    for row in (reread(store, job), reread(store, spent)):
        assert (row.state, row.claimed_by, row.lease_until) == ("CANCELLED", None, None)
        assert row.finished is not None and not row.cancel_requested
    assert [run.outcome for run in runs(store, job)] == ["lost"]


@committed
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_job_that_its_task_has_locked_is_not_taken_and_keeps_no_one_waiting(store):
    job, other = lost(store), lost(store)
    with locked(store, job):
        assert rescue(store) == (1, [])
    assert (reread(store, job).state, reread(store, other).state) == ("PROCESSING", "READY")
    assert rescue(store) == (1, [])


@committed
def test_a_job_is_rescued_once_however_many_try(store):
    jobs = [lost(store, lost_attempts=number % 3) for number in range(12)]
    found = together(4, lambda number: rescue(store, worker=f"worker-{number}"))
    assert sum(ready for ready, _ in found) == 8
    assert len({job.id for _, spent in found for job in spent}) == sum(len(spent) for _, spent in found) == 4
    assert [len(runs(store, job)) for job in jobs] == [1] * 12


@committed
def test_what_its_worker_knows_to_be_its_own_it_does_not_take_from_itself(store):
    own, of_another = lost(store), lost(store)
    answer_lost = lost(store)  # Claimed, without the worker having heard of it.
    Job.objects.using(store.using).filter(pk=of_another.pk).update(claimed_by="another")
    ready, spent = store.rescue(
        worker="one", lease_seconds=LEASE, lost_attempts_max=3, held=[own.id, of_another.id]
    )
    assert ({job.id for job in ready}, spent) == ({of_another.id, answer_lost.id}, [])
    assert reread(store, own).state == "PROCESSING"
    assert {reread(store, job).state for job in (of_another, answer_lost)} == {"READY"}


@committed
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_store_tells_which_rows_others_have_locked(store):
    free, held, gone = make_job(store), make_job(store), make_job(store)
    Job.objects.using(store.using).filter(pk=gone.pk).delete()
    with locked(store, held):
        assert store.locked([free.id, held.id, gone.id]) == {held.id}
    assert store.locked([free.id, held.id]) == set()
