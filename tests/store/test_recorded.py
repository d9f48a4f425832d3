"""Asked when the answer of a record was lost: was it written?"""

import pytest

from tests.store.helpers import ALIASES, a_run, claim, claimed, clock, record, seconds, transition

pytestmark = pytest.mark.django_db(databases=ALIASES)


def done(job, state="READY"):
    return transition(job, state, run=a_run(job))


def test_what_was_written_is_told_with_the_state_of_the_job(store):
    job, other = claimed(store), claimed(store)
    record(store, done(job), done(other, "COMPLETE"))
    found = store.recorded([done(job), done(other, "COMPLETE")], worker="one")
    assert found == {job.id: "READY", other.id: "COMPLETE"}


def test_what_was_held_on_is_told(store):
    job = claimed(store)
    kept = done(job)
    kept.keep()
    record(store, kept)
    assert store.recorded([kept], worker="one") == {job.id: "PROCESSING"}


def test_what_was_never_written_is_missing(store):
    job, other = claimed(store), claimed(store)
    record(store, done(other))
    assert store.recorded([done(job)], worker="one") == {}


def test_an_earlier_attempt_is_not_taken_for_this_one(store):
    job = claimed(store)
    record(store, done(job))
    (mine,) = claim(store)
    assert store.recorded([done(mine)], worker="one") == {}


def test_what_another_worker_wrote_is_missing(store):
    job = claimed(store, worker="two")
    record(store, done(job), worker="two")
    assert store.recorded([done(job)], worker="one") == {}


def test_a_lost_attempt_is_missing(store):
    job = claimed(store, now=clock(store) - seconds(3600))
    store.rescue(worker="two", lease_seconds=30, lost_attempts_max=3)
    assert store.recorded([done(job)], worker="one") == {}


def test_no_transitions_are_an_empty_answer(store):
    assert store.recorded([], worker="one") == {}
