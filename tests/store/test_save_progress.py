import pytest

from tests.store.helpers import ALIASES, claim, claimed, clock, columns, record, reread, transition

pytestmark = pytest.mark.django_db(databases=ALIASES)


def save(store, job, workspace='{"n": 1}', result=None, worker="one"):
    return store.save_progress(job, workspace=workspace, result=result, worker=worker)


def test_the_workspace_and_result_so_far_are_kept_and_the_job_stays_held(store):
    job = claimed(store, workspace={"old": 1})
    before, since = columns(store, job), clock(store)
    assert save(store, job, '{"é": "🐈", "%s": [null]}', '{"half": true}') is True
    row = columns(store, job)
    assert since <= row.pop("modified") <= clock(store)
    before.pop("modified")
    assert row == {**before, "workspace": {"é": "🐈", "%s": [None]}, "result": {"half": True}}


def test_without_a_result_the_former_one_stays(store):
    job = claimed(store, result=[1])
    assert save(store, job, result=None)
    assert reread(store, job).result == [1]


def test_progress_may_be_saved_again_and_again_and_recorded_after(store):
    job = claimed(store)
    assert save(store, job, '{"n": 1}') and save(store, job, '{"n": 2}')
    assert record(store, transition(job, "COMPLETE")) == {job.id: "COMPLETE"}
    assert reread(store, job).workspace == {"n": 2}


def test_a_job_shown_as_stopping_saves(store):
    job = claimed(store)
    store.extend([job], worker="one", lease_seconds=60, stopping=True)
    assert save(store, job) is True


def assert_not_saved(store, job, worker="one"):
    before = columns(store, job)
    assert save(store, job, '{"stolen": 1}', "1", worker=worker) is False
    assert columns(store, job) == before


def test_a_claim_that_has_moved_on_saves_nothing(store):
    job = claimed(store)
    store.release([job], worker="one")
    claim(store, worker="one")
    assert_not_saved(store, job)


def test_another_worker_saves_nothing(store):
    assert_not_saved(store, claimed(store, worker="one"), worker="two")


def test_a_finished_job_saves_nothing(store):
    job = claimed(store)
    record(store, transition(job, "COMPLETE"))
    assert_not_saved(store, job)
