import pytest

from tests.store.helpers import ALIASES, NOW, claim, claimed, columns, record, reread, runs, transition

pytestmark = pytest.mark.django_db(databases=ALIASES)


@pytest.mark.parametrize("state", ["NEW", "READY"])
def test_a_released_job_is_what_it_was_before_the_claim(store, state):
    job = claimed(store, state=state, attempt=2, lost_attempts=1, error="before", workspace={"a": 1})
    job.workspace["a"] = 2
    assert store.release([job], worker="one") == {job.id: state}
    row = reread(store, job)
    assert (row.state, row.attempt, row.lost_attempts) == (state, 2, 1)
    assert (row.error, row.workspace) == ("before", {"a": 1})
    assert (row.claimed_by, row.lease_until, row.finished) == (None, None, None)
    assert runs(store, job) == []


def test_a_released_job_is_due_at_once_under_a_new_claim(store):
    job = claimed(store)
    store.release([job], worker="one")
    (mine,) = claim(store, worker="two")
    assert (mine.id, mine.claim, mine.attempt) == (job.id, job.claim + 1, 1)


def test_only_jobs_that_are_still_held_are_released(store):
    job, lost, other = claimed(store), claimed(store), claimed(store, worker="two")
    record(store, transition(lost, "COMPLETE"))
    before = columns(store, lost), columns(store, other)
    assert store.release([job, lost, other], worker="one") == {job.id: "NEW"}
    assert (columns(store, lost), columns(store, other)) == before
    store.release([other], worker="two")


def test_a_job_is_released_at_the_time_that_the_caller_gives(store):
    job = claimed(store, now=NOW)
    store.release([job], worker="one", now=NOW)
    assert reread(store, job).modified == NOW


def test_a_job_is_released_whatever_its_task_was_moved_to(store):
    job = claimed(store, next_task="tests.workflows.gone", position=9)
    store.release([job], worker="one")
    row = reread(store, job)
    assert (row.next_task, row.position) == ("tests.workflows.gone", 9)


def test_a_job_that_was_to_be_cancelled_is_cancelled_when_it_is_released(store):
    job = claimed(store)
    store.cancel([job.id])
    assert store.release([job], worker="one") == {job.id: "CANCELLED"}
    assert claim(store) == []


def test_no_jobs_are_an_empty_answer(store):
    assert store.release([], worker="one") == {}
