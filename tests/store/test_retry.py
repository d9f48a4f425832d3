import pytest

from tests.store.helpers import ALIASES, NOW, claim, claimed, columns, make_job, record, reread, transition

pytestmark = pytest.mark.django_db(databases=ALIASES)

PLAN = ["app.first", "app.second"]


def ended(store, state="FAILED", next_task="app.second", **columns):
    job = claimed(store, plan=PLAN, workspace={"a": 1}, **columns)
    record(store, transition(job, state, next_task=next_task, attempt=4, lost_attempts=2))
    return job


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_an_ended_job_is_ready_again_at_the_task_it_ended_at(store, state):
    job = ended(store, state)
    assert store.retry([job.id]) == {job.id}
    row = reread(store, job)
    assert (row.state, row.next_task, row.position) == ("READY", "app.second", 1)
    assert (row.attempt, row.lost_attempts, row.finished) == (0, 0, None)
    assert (row.workspace, row.claim) == ({"a": 1}, job.claim)
    assert [mine.id for mine in claim(store)] == [job.id]


def test_a_complete_job_starts_over(store):
    job = ended(store, "COMPLETE", next_task="")
    assert store.retry([job.id]) == {job.id}
    row = reread(store, job)
    assert (row.state, row.next_task, row.position) == ("READY", "app.first", 0)


def test_a_job_may_be_told_to_start_over(store):
    job = ended(store)
    assert store.retry([job.id], from_start=True) == {job.id}
    row = reread(store, job)
    assert (row.next_task, row.position) == ("app.first", 0)


def test_a_retried_job_waits_for_no_time(store):
    job = ended(store, run_after=NOW.replace(year=2001))
    store.cancel([job.id])
    store.retry([job.id])
    row = reread(store, job)
    assert (row.run_after, row.staged, row.cancel_requested) == (None, True, False)


def test_a_future_job_that_was_cancelled_is_due_when_it_is_retried(store):
    job = make_job(store, run_after=NOW.replace(year=2999), staged=False)
    store.cancel([job.id])
    assert store.retry([job.id]) == {job.id}
    assert [mine.id for mine in claim(store)] == [job.id]


@pytest.mark.parametrize("from_start", [True, False])
def test_a_job_without_a_plan_starts_over_nowhere(store, from_start):
    job = make_job(store, state="COMPLETE", next_task="" if not from_start else "app.x")
    type(job).objects.using(store.using).filter(pk=job.pk).update(plan=None)
    before = columns(store, job)
    assert store.retry([job.id], from_start=from_start) == set()
    assert columns(store, job) == before


@pytest.mark.parametrize("stuck", [True, False])
@pytest.mark.parametrize("state", ["NEW", "READY", "WAITING"])
def test_a_job_that_has_not_ended_is_left_alone(store, state, stuck):
    job = make_job(store, state=state)
    before = columns(store, job)
    assert store.retry([job.id], stuck=stuck) == set()
    assert columns(store, job) == before


@pytest.mark.parametrize("stuck", [True, False])
def test_a_held_job_is_left_alone(store, stuck):
    job = claimed(store)
    before = columns(store, job)
    assert store.retry([job.id], stuck=stuck) == set()
    assert columns(store, job) == before


@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING"])
def test_what_a_worker_of_the_original_left_is_taken_over_on_request_alone(store, state):
    job = make_job(store, state=state)
    assert store.retry([job.id]) == set()
    assert store.retry([job.id], stuck=True) == {job.id}
    assert reread(store, job).state == "READY"


def test_no_jobs_are_none(store):
    assert store.retry([]) == set()
