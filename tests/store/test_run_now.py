import pytest

from tests.store.helpers import ALIASES, NOW, claim, claimed, clock, columns, make_job, reread, seconds

pytestmark = pytest.mark.django_db(databases=ALIASES)

FAR = NOW.replace(year=2999)


@pytest.mark.parametrize("state", ["NEW", "READY"])
def test_jobs_that_wait_for_a_time_can_be_claimed_at_once(store, state):
    jobs = [make_job(store, state=state, run_after=FAR, staged=False) for _ in range(2)]
    before = clock(store)
    assert store.run_now([job.id for job in jobs]) == {job.id for job in jobs}
    assert {job.id for job in claim(store)} == {job.id for job in jobs}
    row = reread(store, jobs[0])
    assert (row.run_after, row.staged) == (None, True) and row.modified >= before


@pytest.mark.parametrize("state", ["WAITING", "COMPLETE", "FAILED", "CANCELLED"])
def test_what_waits_for_no_claim_is_left_alone(store, state):
    job = make_job(store, state=state, run_after=FAR)
    before = columns(store, job)
    assert store.run_now([job.id]) == set()
    assert columns(store, job) == before


def test_a_held_job_and_one_that_waits_for_no_time_are_left_alone(store):
    held, due = claimed(store, run_after=clock(store) - seconds(60)), make_job(store)
    before = columns(store, held), columns(store, due)
    assert store.run_now([held.id, due.id]) == set()
    assert (columns(store, held), columns(store, due)) == before
