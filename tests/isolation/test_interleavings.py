"""Two or three sessions of PostgreSQL in every order of their steps: one winner, and the loser saw nothing.

Each scenario makes jobs and returns the verbs of each session and what must have come of
them. It is played once for each order of the sessions' turns and each way they may end;
a session's last turn is its commit or rollback.
"""

from __future__ import annotations

import itertools

import pytest

from django_dbq.engine.lifecycle import FINISHED_STATES, HELD_STATES
from django_dbq.models import Job, TaskRun
from django_dbq.store import get_store
from tests.isolation.sessions import ALIAS, Session, orders, play
from tests.store.helpers import (
    LEASE,
    a_run,
    claim,
    claimed,
    clock,
    make_job,
    make_jobs,
    record,
    reread,
    runs,
    seconds,
    transition,
)

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

NAMES = ("first", "second", "third")


@pytest.fixture
def store():
    return get_store(ALIAS)


@pytest.fixture
def sessions(store):
    """Three sessions as workers set them up; they end when the test does."""
    sessions = {name: Session(name, lambda: store.prepare_session(LEASE)) for name in NAMES}
    yield sessions
    for session in sessions.values():
        session.close()


def play_all(store, sessions, scenario, *ends):
    """Play every order of a scenario whose sessions end so; return the stories."""
    stories, before = [], []
    counts = {name: len(steps) + 1 for name, steps in scenario(store)[0].items()}
    for order in orders(counts):
        TaskRun.objects.all()._raw_delete(ALIAS)
        Job.objects.all()._raw_delete(ALIAS)
        steps, check = scenario(store)
        before = {job.pk: job.claim for job in Job.objects.all()}
        names = dict(zip(steps, NAMES, strict=False))
        story = play(
            {name: sessions[place] for name, place in names.items()},
            steps,
            dict(zip(steps, ends, strict=True)),
            order,
        )
        try:
            check(story)
            invariants_hold(before)
        except AssertionError as error:
            error.add_note(str(story))
            raise
        stories.append(story)
    return stories


def invariants_hold(claims):
    """Whatever the order, the rows are sound, and no claim number has become less."""
    jobs = {job.pk: job for job in Job.objects.all()}
    for job in jobs.values():
        held = job.state in HELD_STATES
        assert held == (job.claimed_by is not None) == (job.lease_until is not None), job.__dict__
        assert (job.state in FINISHED_STATES) == (job.finished is not None), job.__dict__
        assert job.claim >= claims[job.pk], "a claim number has become less"
        assert job.attempt >= 0 and job.lost_attempts >= 0
    kept = list(TaskRun.objects.values_list("job_id", "claim"))
    assert len(kept) == len(set(kept)), "an attempt stands twice in the history"
    assert {pk for pk, _ in kept} <= jobs.keys(), "history of a job that is gone"


# Sessions: what each would send, as a worker, the upkeep of another, or a person.


def rescues(store, worker="two"):
    def rescue():
        ready, spent = store.rescue(worker=worker, lease_seconds=LEASE, lost_attempts_max=3)
        return len(ready), spent

    return rescue


def records(store, job, state="READY", **values):
    return lambda: record(store, transition(job, state, run=a_run(job), **values))


def extends(store, job):
    return lambda: store.extend([job], worker="one", lease_seconds=600)


def lost(store, **columns):
    """A job whose lease ran out while worker "one" held it."""
    return claimed(store, now=clock(store) - seconds(3600), **columns)


def reads(store, job):
    """The row as it is now."""
    return reread(store, job)


# Scenarios.


def claim_and_claim(store):
    job = make_job(store)

    def check(story):
        one, two = (story.answer(name) for name in ("one", "two"))
        winners = [name for name, jobs in (("one", one), ("two", two)) if jobs and story.committed(name)]
        row = reads(store, job)
        assert row.claim == len(winners) == row.attempt and [row.claimed_by] == (winners or [None])
        assert not story.waited, "a claim passes over what another holds locked"
        if story.committed("one") and story.committed("two"):
            assert len(winners) == 1

    return {name: [lambda name=name: claim(store, worker=name, limit=1)] for name in ("one", "two")}, check


def three_claims_of_two_jobs(store):
    jobs = make_jobs(store, 2)

    def check(story):
        got = [
            (name, job.pk)
            for name in ("one", "two", "three")
            for job in story.answer(name)
            if story.committed(name)
        ]
        assert len({pk for _, pk in got}) == len(got), "two workers have one job"
        assert {job.pk: job.claimed_by for job in Job.objects.all() if job.claimed_by} == {
            pk: name for name, pk in got
        }
        if all(story.committed(name) for name in story.ends):
            assert len(got) == len(jobs)
        assert not story.waited

    return {
        name: [lambda name=name: claim(store, worker=name, limit=1)] for name in ("one", "two", "three")
    }, check


def record_and_rescue(store, hold=False, lost_attempts=0, rescuer="two"):
    job = lost(store, lost_attempts=lost_attempts)
    spent = lost_attempts == 2
    values = {"hold": True, "attempt": 1} if hold else {}

    def check(story):
        recorded = bool(story.answer("record")) and story.committed("record")
        ready, failed = story.answer("rescue")
        rescued = bool(ready or failed) and story.committed("rescue")
        assert not (recorded and rescued), "both have won"
        if story.committed("record") and story.committed("rescue"):
            assert recorded or rescued, "neither has won"
        assert story.answer("record") in ({}, {job.pk: "PROCESSING" if hold else "READY"})
        row, outcomes = reads(store, job), [run.outcome for run in runs(store, job)]
        if recorded:
            assert (row.position, row.lost_attempts, outcomes) == (1, 0, ["done"])
            assert (row.claim, row.claimed_by) == ((2, "one") if hold else (1, None))
        elif rescued:
            assert (row.position, row.lost_attempts, outcomes) == (0, lost_attempts + 1, ["lost"])
            assert (row.claim, row.claimed_by) == ((2, rescuer) if spent else (1, None))
        else:
            assert (row.position, row.claimed_by, row.claim, outcomes) == (0, "one", 1, [])
        assert story.waited == ({"record"} if story.open_at("rescue", "record") else set())

    return {
        "record": [records(store, job, "PROCESSING" if hold else "READY", **values)],
        "rescue": [rescues(store, rescuer)],
    }, check


def a_held_record_and_rescue(store):
    return record_and_rescue(store, hold=True)


def record_and_a_rescue_that_gives_up(store):
    return record_and_rescue(store, lost_attempts=2)


def record_and_a_rescue_by_the_same_worker(store):
    return record_and_rescue(store, lost_attempts=2, rescuer="one")


def rescue_and_rescue(store):
    job = lost(store)

    def check(story):
        won = [name for name in ("two", "three") if story.answer(name)[0] and story.committed(name)]
        if story.committed("two") and story.committed("three"):
            assert len(won) == 1
        assert reads(store, job).lost_attempts == len(won) == len(runs(store, job))

    return {name: [rescues(store, name)] for name in ("two", "three")}, check


def extend_and_rescue(store):
    job = lost(store)

    def check(story):
        extended = bool(story.answer("extend")) and story.committed("extend")
        rescued = story.answer("rescue") == (1, []) and story.committed("rescue")
        assert not (extended and rescued), "both have won"
        if story.committed("extend") and story.committed("rescue"):
            assert extended or rescued, "neither has won"
        row = reads(store, job)
        assert row.state == ("READY" if rescued else "PROCESSING")
        assert (row.lease_until is not None and row.lease_until > clock(store)) == extended
        assert not story.waited, "neither waits for the other"

    return {"extend": [extends(store, job)], "rescue": [rescues(store)]}, check


def extend_and_record(store, hold=False):
    """An atomic task, which saves and records in its transaction, and its own keeper."""
    job = claimed(store)
    values = {"hold": True, "attempt": 1} if hold else {}
    state = "PROCESSING" if hold else "READY"

    def check(story):
        assert story.answer("task", 0) is True and story.answer("task", 1) == {job.pk: state}
        # The keeper is told that it holds the job unless the task has its row locked or has recorded.
        undone = story.over_before("task", "extend") and not story.committed("task")
        assert story.answer("extend") == ({job.pk: False} if story.first("extend", "task") or undone else {})
        row = reads(store, job)
        if not story.committed("task"):
            extended = bool(story.answer("extend")) and story.committed("extend")
            assert (row.state, row.claim, row.workspace) == ("PROCESSING", 1, {})
            assert (row.lease_until > clock(store) + seconds(300)) == extended
            return
        assert (row.state, row.position, row.workspace) == (state, 1, {"half": True})
        assert (row.claim, row.claimed_by) == ((2, "one") if hold else (1, None))
        assert not hold or row.lease_until < clock(store) + seconds(300), "the old claim set the new lease"

    return {
        "task": [
            lambda: store.save_progress(job, workspace='{"half": true}', result=None, worker="one"),
            records(store, job, state, **values),
        ],
        "extend": [extends(store, job)],
    }, check


def extend_and_a_held_record(store):
    return extend_and_record(store, hold=True)


def cancel_and_record(store, state="READY", hold=False):
    job = claimed(store)
    values = {"hold": True, "attempt": 1} if hold else {}

    def check(story):
        row = reads(store, job)
        asked, told = story.answer("cancel"), story.answer("record")
        assert set(told) == {job.pk}, "the worker holds the job whoever cancels it"
        assert len(runs(store, job)) == story.committed("record")
        if not story.committed("record"):
            assert (row.state, row.cancel_requested) == ("PROCESSING", story.committed("cancel"))
        elif not story.committed("cancel"):
            assert (row.state, row.position, row.cancel_requested) == (state, 1, False)
        elif story.first("cancel", "record"):
            # The worker is told by the answer of its record; what has ended is not undone.
            ended = "CANCELLED" if state != "COMPLETE" else "COMPLETE"
            assert (asked, told) == ({job.pk: "PROCESSING"}, {job.pk: ended})
            assert (row.state, row.cancel_requested, row.claim) == (ended, False, 1)
        elif hold:
            assert (asked, told) == ({job.pk: "PROCESSING"}, {job.pk: "PROCESSING"})
            assert (row.state, row.cancel_requested, row.claim) == ("PROCESSING", True, 2)
        elif state == "COMPLETE":
            assert (asked, told, row.state) == ({}, {job.pk: "COMPLETE"}, "COMPLETE")
        else:
            assert (asked, told) == ({job.pk: "CANCELLED"}, {job.pk: "READY"})
            assert (row.state, row.cancel_requested) == ("CANCELLED", False)

    return {
        "cancel": [lambda: store.cancel([job.pk])],
        "record": [records(store, job, state, **values)],
    }, check


def cancel_and_a_held_record(store):
    return cancel_and_record(store, "PROCESSING", hold=True)


def cancel_and_the_last_record(store):
    return cancel_and_record(store, "COMPLETE")


def cancel_and_claim(store):
    job = make_job(store)

    def check(story):
        row = reads(store, job)
        cancelled, got = story.answer("cancel"), story.answer("claim")
        if got and story.committed("claim"):
            assert cancelled == {job.pk: "PROCESSING"} or not story.committed("cancel")
            assert (row.state, row.cancel_requested) == ("PROCESSING", story.committed("cancel"))
        elif story.committed("cancel"):
            assert (row.state, row.claim) == ("CANCELLED", 0)

    return {"cancel": [lambda: store.cancel([job.pk])], "claim": [lambda: claim(store)]}, check


def cancel_and_rescue(store):
    job = lost(store)

    def check(story):
        row = reads(store, job)
        both = story.committed("cancel") and story.committed("rescue")
        if both and story.answer("rescue") == (1, []):
            assert row.state == "CANCELLED" and [run.outcome for run in runs(store, job)] == ["lost"]
        elif both:
            assert story.open_at("cancel", "rescue"), "an expired lease is left only to who has it locked"
            assert (row.state, row.cancel_requested) == ("PROCESSING", True)

    return {"cancel": [lambda: store.cancel([job.pk])], "rescue": [rescues(store)]}, check


def prune_and_retry(store):
    job = claimed(store)
    record(store, transition(job, "FAILED", run=a_run(job, outcome="failed")))
    tomorrow = clock(store) + seconds(86_400)

    def check(story):
        pruned = story.answer("prune") == 1 and story.committed("prune")
        retried = story.answer("retry") == 1 and story.committed("retry")
        assert not (pruned and retried), "both have won"
        if story.committed("prune") and story.committed("retry"):
            assert pruned or retried, "neither has won"
        state = Job.objects.filter(pk=job.pk).values_list("state", flat=True).first()
        assert state == (None if pruned else "READY" if retried else "FAILED")
        assert len(runs(store, job)) == (not pruned)
        assert story.waited == ({"retry"} if story.open_at("prune", "retry") else set())

    return {
        "prune": [lambda: store.prune(tomorrow).jobs.total()],
        "retry": [lambda: len(store.retry([job.pk]))],
    }, check


def stage_and_claim(store):
    job = make_job(store, staged=False, run_after=clock(store) - seconds(60))

    def check(story):
        staged = story.committed("stage")
        got = bool(story.answer("claim"))
        assert story.answer("stage") == 1, "nobody else wants a job that is not staged"
        assert got == (staged and story.over_before("stage", "claim"))
        row = reads(store, job)
        assert row.staged == staged and (row.state == "PROCESSING") == (got and story.committed("claim"))
        assert not story.waited

    return {"stage": [lambda: store.stage()], "claim": [lambda: claim(store)]}, check


def save_progress_and_rescue(store):
    job = lost(store)

    def check(story):
        saved, rescued = story.answer("save"), story.answer("rescue") == (1, [])
        row = reads(store, job)
        assert row.workspace == ({"half": True} if saved and story.committed("save") else {})
        assert row.state == ("READY" if rescued and story.committed("rescue") else "PROCESSING")
        if story.first("rescue", "save"):
            assert saved == (not story.committed("rescue")), "who has lost the job saves nothing"
        else:
            assert saved and rescued == story.over_before("save", "rescue")

    return {
        "save": [lambda: store.save_progress(job, workspace='{"half": true}', result=None, worker="one")],
        "rescue": [rescues(store)],
    }, check


def delete_and_record(store, delete=lambda job: job.delete()):
    job = claimed(store)

    def check(story):
        gone = not Job.objects.filter(pk=job.pk).exists()
        assert gone == story.committed("delete")
        if story.first("delete", "record") and story.committed("delete"):
            assert story.answer("record") == {}, "there is nothing to record"
        else:
            assert story.answer("record") == {job.pk: "READY"}
        assert len(runs(store, job)) == (story.committed("record") and not gone)

    return {
        "delete": [lambda: delete(reread(store, job))],
        "record": [records(store, job)],
    }, check


def delete_of_many_and_record(store):
    return delete_and_record(store, lambda job: Job.objects.filter(name=job.name).delete())


def record_and_rescue_and_extend(store):
    job = lost(store)

    def check(story):
        recorded = bool(story.answer("record"))
        rescued = story.answer("rescue") == (1, [])
        assert not (recorded and rescued), "both have won"
        assert not (rescued and story.answer("extend")), "both hold the job"
        row, outcomes = reads(store, job), [run.outcome for run in runs(store, job)]
        assert recorded or rescued, "neither has won"
        assert (row.state, outcomes) == ("READY", ["done" if recorded else "lost"])
        assert row.position == recorded

    return {
        "record": [records(store, job)],
        "rescue": [rescues(store)],
        "extend": [extends(store, job)],
    }, check


def record_and_rescue_and_cancel(store):
    job = lost(store)

    def check(story):
        recorded = bool(story.answer("record"))
        rescued = story.answer("rescue") == (1, [])
        assert not (recorded and rescued), "both have won"
        assert recorded or rescued, "neither has won"
        assert set(story.answer("cancel")) == {job.pk}
        row = reads(store, job)
        assert (row.state, row.cancel_requested) == ("CANCELLED", False)
        assert [run.outcome for run in runs(store, job)] == ["done" if recorded else "lost"]

    return {
        "record": [records(store, job)],
        "rescue": [rescues(store)],
        "cancel": [lambda: store.cancel([job.pk])],
    }, check


def record_and_rescue_and_claim(store):
    job = lost(store)

    def check(story):
        recorded = bool(story.answer("record"))
        rescued = story.answer("rescue") == (1, [])
        assert recorded != rescued
        row = reads(store, job)
        got = story.answer("claim")
        assert (row.state, row.claim) == (("PROCESSING", 2) if got else ("READY", 1))
        for mine in got:
            assert (mine.claim, mine.position, mine.lost_attempts) == (2, int(recorded), int(rescued))
        assert "claim" not in story.waited and "rescue" not in story.waited

    return {
        "record": [records(store, job)],
        "rescue": [rescues(store)],
        "claim": [lambda: claim(store, worker="three")],
    }, check


def batches_in_different_orders(store, other):
    """A record of three jobs and another verb that names them the other way round, with one row locked."""
    jobs = [claimed(store) for _ in range(3)]

    def check(story):
        assert story.answer("record").keys() == {job.pk for job in jobs}
        assert [run.outcome for run in TaskRun.objects.all()] == ["done"] * 3
        assert "record" in story.waited or not story.open_at("holder", "record")

    return {
        "holder": [lambda: Job.objects.select_for_update().get(pk=jobs[1].pk)],
        "record": [
            lambda: record(
                store, *(transition(job, "COMPLETE", run=a_run(job)) for job in (jobs[2], jobs[1], jobs[0]))
            )
        ],
        "other": [lambda: other([job.pk for job in jobs])],
    }, check


def record_and_cancel_of_many(store):
    return batches_in_different_orders(store, store.cancel)


def record_and_cancel_of_many_backwards(store):
    return batches_in_different_orders(store, lambda pks: store.cancel(pks[::-1]))


def record_and_retry_of_many(store):
    return batches_in_different_orders(store, store.retry)


def record_and_expiry_of_many(store):
    return batches_in_different_orders(store, lambda pks: store.expire(["one"]))


def retry_and_delete_of_many(store):
    jobs = [claimed(store) for _ in range(3)]
    record(store, *(transition(job, "FAILED", run=a_run(job, outcome="failed")) for job in jobs))

    def check(story):
        assert not Job.objects.exists() and not TaskRun.objects.exists()
        assert story.answer("retry") == (3 if story.first("retry", "delete") else 0), "neither is half done"

    return {
        "holder": [lambda: Job.objects.select_for_update().filter(pk=jobs[1].pk).first()],
        "retry": [lambda: len(store.retry([job.pk for job in jobs]))],
        "delete": [lambda: Job.objects.all().delete()],
    }, check


PAIRS = [
    claim_and_claim,
    record_and_rescue,
    a_held_record_and_rescue,
    record_and_a_rescue_that_gives_up,
    record_and_a_rescue_by_the_same_worker,
    rescue_and_rescue,
    extend_and_rescue,
    extend_and_record,
    extend_and_a_held_record,
    cancel_and_record,
    cancel_and_a_held_record,
    cancel_and_the_last_record,
    cancel_and_claim,
    cancel_and_rescue,
    prune_and_retry,
    stage_and_claim,
    save_progress_and_rescue,
    delete_and_record,
    delete_of_many_and_record,
]
TRIPLES = [
    three_claims_of_two_jobs,
    record_and_rescue_and_extend,
    record_and_rescue_and_cancel,
    record_and_rescue_and_claim,
    record_and_cancel_of_many,
    record_and_cancel_of_many_backwards,
    record_and_retry_of_many,
    record_and_expiry_of_many,
    retry_and_delete_of_many,
]


@pytest.mark.parametrize("ends", list(itertools.product(["commit", "rollback"], repeat=2)), ids=" ".join)
@pytest.mark.parametrize("scenario", PAIRS, ids=lambda scenario: scenario.__name__)
def test_of_two_sessions_one_wins_whatever_the_order(store, sessions, scenario, ends):
    stories = play_all(store, sessions, scenario, *ends)
    assert len(stories) >= 6


@pytest.mark.parametrize("scenario", TRIPLES, ids=lambda scenario: scenario.__name__)
def test_of_three_sessions_one_wins_whatever_the_order(store, sessions, scenario):
    stories = play_all(store, sessions, scenario, "commit", "commit", "commit")
    assert len(stories) == 90


def test_orders_are_all_that_there_are_and_each_is_another():
    found = list(orders({"one": 2, "two": 2}))
    assert len(found) == len(set(found)) == 6
    assert ("one", "two", "two", "one") in found
    assert len(set(orders({"one": 2, "two": 2, "three": 2}))) == 90


def test_a_step_that_waits_for_a_lock_is_seen_to_wait(store, sessions):
    job = make_job(store)
    steps = {
        "one": [lambda: store.cancel([job.pk])],
        "two": [lambda: store.cancel([job.pk])],
    }
    story = play(
        {"one": sessions["first"], "two": sessions["second"]},
        steps,
        {"one": "commit", "two": "commit"},
        ("one", "two", "two", "one"),
    )
    assert story.waited == {"two"}
    assert (story.answer("one"), story.answer("two")) == ({job.pk: "CANCELLED"}, {})
