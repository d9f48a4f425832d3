import json
import threading
import time

import pytest
from django.db import IntegrityError, connections
from django.db.transaction import atomic
from freezegun import freeze_time

from django_dbq.engine.lifecycle import State, Transition
from django_dbq.models import Job, TaskRun, uuid7
from tests.conftest import wait_until
from tests.store import helpers
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
    record,
    reread,
    runs,
    seconds,
    together,
    transition,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)
committed = pytest.mark.django_db(databases=ALIASES, transaction=True)


@pytest.fixture(autouse=True, params=["alone", "beside another"])
def company(request, monkeypatch):
    """One transition may have a statement of its own; a second one, of a job that is gone, rules that out."""
    if request.param == "beside another":
        gone = Transition(uuid7(), 1, State.READY, "a.b", 1, 0, 0, "done")
        monkeypatch.setattr(helpers, "beside", [gone])


# Where the job goes.


def test_a_recorded_job_is_ready_at_its_next_task_and_free(store):
    job = claimed(store)
    before = clock(store)
    assert record(store, transition(job, next_task="a.b", position=3)) == {job.id: "READY"}
    row = reread(store, job)
    assert (row.state, row.next_task, row.position, row.attempt) == ("READY", "a.b", 3, 0)
    assert (row.claimed_by, row.lease_until, row.finished, row.claim) == (None, None, None, 1)
    assert before <= row.modified <= clock(store)
    assert row.staged and row.run_after is None


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED", "CANCELLED"])
def test_a_finished_job_has_the_time_it_finished(store, state):
    job = claimed(store)
    before = clock(store)
    assert record(store, transition(job, state, next_task="")) == {job.id: state}
    row = reread(store, job)
    assert (row.state, row.claimed_by, row.lease_until) == (state, None, None)
    assert before <= row.finished <= clock(store)


def test_counts_are_recorded_as_they_were_decided(store):
    job = claimed(store)
    record(store, transition(job, "READY", attempt=4, lost_attempts=2))
    row = reread(store, job)
    assert (row.attempt, row.lost_attempts) == (4, 2)


@pytest.mark.parametrize("priority", [-32768, -1, 0, 32767])
def test_a_priority_that_was_decided_is_recorded(store, priority):
    job = claimed(store, priority=5)
    record(store, transition(job, priority=priority))
    assert reread(store, job).priority == priority


def test_what_a_transition_leaves_out_stays(store):
    job = claimed(store, workspace={"a": 1}, result={"b": 2}, error="before", started=NOW)
    record(store, transition(job))
    row = reread(store, job)
    assert (row.workspace, row.result, row.error, row.started) == ({"a": 1}, {"b": 2}, "before", NOW)


def test_workspace_result_and_error_are_recorded(store):
    job = claimed(store, workspace={"a": 1})
    workspace = {"é🐈": ["\\", '"', None, 1.5, {"deep": True}], "%s": "%(now)s", "empty": {}}
    record(
        store,
        transition(job, "FAILED", workspace=json.dumps(workspace), result="[1, 2]", error="it's 100 % é\n🐈"),
    )
    row = reread(store, job)
    assert (row.workspace, row.result, row.error) == (workspace, [1, 2], "it's 100 % é\n🐈")


@pytest.mark.parametrize("result", [0, False, "", [], {}, "text"], ids=repr)
def test_a_result_that_python_holds_for_nothing_is_a_result(store, result):
    job = claimed(store)
    record(store, transition(job, "COMPLETE", result=json.dumps(result)))
    assert reread(store, job).result == result


def test_completing_clears_the_error_of_attempts_before(store):
    job = claimed(store, error="the attempt before failed")
    record(store, transition(job, "COMPLETE"))
    assert reread(store, job).error is None


def test_going_on_keeps_the_error_until_the_job_is_complete(store):
    job = claimed(store, error="the attempt before failed")
    record(store, transition(job, "READY"))
    assert reread(store, job).error == "the attempt before failed"


# Delays.


def test_a_delayed_job_waits_unstaged_by_the_clock_of_the_database(store):
    job = claimed(store)
    before = clock(store)
    record(store, transition(job, delay_seconds=90.5))
    row = reread(store, job)
    assert row.staged is False
    assert before + seconds(90.5) <= row.run_after <= clock(store) + seconds(90.5)
    assert claim(store) == []


@pytest.mark.parametrize("delay_seconds", [0, 0.0])
def test_a_delay_of_nothing_leaves_the_job_due(store, delay_seconds):
    job = claimed(store)
    record(store, transition(job, delay_seconds=delay_seconds))
    row = reread(store, job)
    assert row.staged is True and row.run_after <= clock(store)
    assert [mine.id for mine in claim(store)] == [job.id]


def test_without_a_delay_the_due_time_stays(store):
    due = clock(store) - seconds(60)
    job = claimed(store, run_after=due)
    record(store, transition(job))
    assert reread(store, job).run_after == due


def test_a_delay_counts_from_the_time_that_the_caller_gives(store):
    job = claimed(store, now=NOW)
    record(store, transition(job, delay_seconds=0.25), now=NOW)
    row = reread(store, job)
    assert (row.run_after, row.modified) == (NOW + seconds(0.25), NOW)


# Holding on.


def held_on(job, **values):
    found = transition(job, **values)
    found.keep()
    return found


def test_a_job_held_on_keeps_its_worker_under_the_next_claim(store):
    job = claimed(store)
    before = clock(store)
    assert record(store, held_on(job), lease_seconds=70) == {job.id: "PROCESSING"}
    row = reread(store, job)
    assert (row.state, row.claimed_by, row.claim, row.attempt) == ("PROCESSING", "one", 2, 1)
    assert before + seconds(70) <= row.lease_until <= clock(store) + seconds(70)
    assert row.finished is None and claim(store, worker="two") == []


def test_a_job_held_on_is_recorded_under_its_next_claim_alone(store):
    job = claimed(store)
    record(store, held_on(job, position=1))
    before = columns(store, job)
    assert record(store, transition(job, position=2)) == {}
    assert columns(store, job) == before
    job.claim += 1
    assert record(store, transition(job, "COMPLETE", position=2)) == {job.id: "COMPLETE"}


def test_a_lease_held_on_counts_from_the_time_that_the_caller_gives(store):
    job = claimed(store, now=NOW)
    record(store, held_on(job), now=NOW + seconds(5))
    assert reread(store, job).lease_until == NOW + seconds(5 + LEASE)


# The fence.


def assert_fenced(store, job, *, worker="one"):
    """Assert that what `worker` records of `job` changes nothing and is missing from the answer."""
    before = columns(store, job), len(runs(store, job))
    for given in (
        transition(job, "COMPLETE", workspace='{"stolen": true}', run=a_run(job)),
        transition(job, "FAILED", error="stolen", run=a_run(job)),
        transition(job, delay_seconds=60),
        held_on(job),
    ):
        assert record(store, given, worker=worker) == {}
    assert (columns(store, job), len(runs(store, job))) == before


def test_a_claim_that_has_moved_on_changes_nothing(store):
    job = claimed(store)
    store.release([job], worker="one")
    (mine,) = claim(store, worker="one")
    assert mine.claim == job.claim + 1
    assert_fenced(store, job)


def test_a_claim_that_is_not_there_yet_changes_nothing(store):
    job = claimed(store)
    job.claim += 1
    assert_fenced(store, job)


def test_another_worker_changes_nothing(store):
    assert_fenced(store, claimed(store, worker="one"), worker="two")


def test_a_job_that_is_held_by_nobody_is_not_changed(store):
    job = claimed(store)
    store.release([job], worker="one")
    assert_fenced(store, job)


def test_a_job_that_was_deleted_is_missing_from_the_answer(store):
    job, other = claimed(store), claimed(store)
    Job.objects.using(store.using).filter(pk=job.pk).delete()
    answer = record(store, transition(job, run=a_run(job)), transition(other, run=a_run(other)))
    assert answer == {other.id: "READY"}
    assert runs(store, job) == []


def test_a_record_that_is_sent_twice_changes_nothing_the_second_time(store):
    job = claimed(store)
    done = transition(job, run=a_run(job))
    assert record(store, done) == {job.id: "READY"}
    before = columns(store, job)
    assert record(store, done) == {}
    assert columns(store, job) == before and len(runs(store, job)) == 1


def test_a_lease_that_ran_out_but_was_not_taken_still_records(store):
    job = claimed(store, now=clock(store) - seconds(3600))
    assert record(store, transition(job, "COMPLETE")) == {job.id: "COMPLETE"}


# What follows a success.


def ready(**columns):
    job = Job(name="five", **columns)
    job._make_ready()
    return job


def test_what_follows_a_success_is_inserted_with_its_record(store):
    job, follower = claimed(store), ready(queue_name="later")
    assert record(store, transition(job, "COMPLETE", follower=follower)) == {job.id: "COMPLETE"}
    (found,) = claim(store, "later")
    assert (found.id, found.created <= found.modified) == (follower.id, True)


@pytest.mark.parametrize("state", ["READY", "FAILED"])
def test_nothing_follows_what_is_no_success(store, state):
    job, follower = claimed(store), ready()
    assert record(store, transition(job, state, follower=follower)) == {job.id: state}
    assert not Job.objects.using(store.using).filter(pk=follower.pk).exists()


def test_nothing_follows_a_claim_that_was_lost(store):
    job, kept = claimed(store), claimed(store)
    store.release([job], worker="one")
    followers = [ready(), ready()]
    given = [
        transition(each, "COMPLETE", follower=follower)
        for each, follower in zip((job, kept), followers, strict=True)
    ]
    assert record(store, *given) == {kept.id: "COMPLETE"}
    found = Job.objects.using(store.using).filter(pk__in=[each.pk for each in followers])
    assert [each.pk for each in found] == [followers[1].pk]


@committed
def test_a_record_stands_with_what_follows_or_not_at_all(store):
    job = claimed(store)
    done = transition(job, "COMPLETE", follower=Job(id=job.id, name="five"), run=a_run(job))
    before = columns(store, job)
    with pytest.raises(IntegrityError):
        record(store, done)
    assert columns(store, job) == before and runs(store, job) == []
    done.follower = ready()
    assert record(store, done) == {job.id: "COMPLETE"}


# Many at once.


def test_many_transitions_are_one_record(store):
    jobs = [claimed(store) for _ in range(6)]
    lost = jobs[4]
    store.release([lost], worker="one")
    before = columns(store, lost)
    answer = record(
        store,
        transition(jobs[0], "COMPLETE", run=a_run(jobs[0])),
        transition(jobs[1], "FAILED", error="no", run=a_run(jobs[1], outcome="failed", error="no")),
        transition(jobs[2], delay_seconds=60, run=a_run(jobs[2], outcome="snooze")),
        held_on(jobs[3], workspace='{"n": 3}', run=a_run(jobs[3])),
        transition(lost, "COMPLETE", run=a_run(lost)),
        transition(jobs[5], outcome="given_back"),
    )
    assert answer == {
        jobs[0].id: "COMPLETE",
        jobs[1].id: "FAILED",
        jobs[2].id: "READY",
        jobs[3].id: "PROCESSING",
        jobs[5].id: "READY",
    }
    assert [reread(store, job).state for job in jobs] == [
        "COMPLETE",
        "FAILED",
        "READY",
        "PROCESSING",
        "NEW",
        "READY",
    ]
    assert reread(store, jobs[3]).workspace == {"n": 3} and reread(store, jobs[0]).workspace == {}
    assert columns(store, lost) == before
    assert [len(runs(store, job)) for job in jobs] == [1, 1, 1, 1, 0, 0]


def test_five_hundred_transitions_are_one_record(store):
    Job.objects.using(store.using).bulk_create([Job(name="five") for _ in range(500)])
    jobs = claim(store, limit=500)
    answer = record(store, *(transition(job, "COMPLETE", run=a_run(job)) for job in jobs))
    assert len(answer) == len(jobs) == TaskRun.objects.using(store.using).count() == 500


AWKWARD = ['"', "\\", '\\"', "{a,b}", "NULL", "", "'", "%s", "\n\t", "é\u2028😀", "\\u0041"]


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_what_needs_care_in_an_array_is_recorded_as_it_is(store, text):
    awkward, plain = claimed(store), claimed(store)
    value = json.dumps({"text": text, text: [text]})
    record(
        store,
        transition(plain, "COMPLETE", run=a_run(plain)),
        transition(
            awkward,
            "FAILED",
            error=text,
            workspace=value,
            result=value,
            run=a_run(awkward, outcome="failed", error=text, changes=value),
        ),
    )
    row, [run] = reread(store, awkward), runs(store, awkward)
    assert row.workspace == row.result == run.changes == json.loads(value)
    assert row.error == run.error == text
    assert reread(store, plain).workspace == {} and reread(store, plain).result is None


def test_no_transitions_are_an_empty_answer(store):
    assert record(store) == {}


# History.


def test_an_attempt_is_history(store):
    job = claimed(store)
    record(
        store,
        transition(
            job,
            "FAILED",
            run=a_run(job, outcome="failed", error="é", changes='{"set": {"a": null}, "unset": ["b"]}'),
        ),
    )
    (run,) = runs(store, job)
    assert (run.task, run.position, run.attempt, run.claim) == ("tests.workflows.count", 0, 1, 1)
    assert (run.worker, run.outcome, run.error) == ("one", "failed", "é")
    assert run.changes == {"set": {"a": None}, "unset": ["b"]}


def test_history_keeps_what_ran_and_not_where_the_job_goes(store):
    job = claimed(store)
    record(store, transition(job, next_task="next.task", position=7, attempt=0, run=a_run(job)))
    (run,) = runs(store, job)
    assert (run.task, run.position, run.attempt) == ("tests.workflows.count", 0, 1)
    assert run.error is None and run.changes is None


def test_what_never_ran_is_no_history(store):
    job = claimed(store)
    record(store, transition(job, outcome="parked", delay_seconds=60))
    assert runs(store, job) == []


def test_each_claim_of_a_job_has_its_own_history(store):
    job = claimed(store)
    for _ in range(3):
        record(store, held_on(job, run=a_run(job)))
        job.claim += 1
    assert [run.claim for run in runs(store, job)] == [1, 2, 3]


def test_history_has_the_times_of_the_attempt_by_the_clock_of_the_database(store):
    job = claimed(store)
    before = clock(store)
    record(store, transition(job, run=a_run(job, began=time.monotonic() - 100, seconds=60.0)))
    (run,) = runs(store, job)
    assert abs(run.started - (before - seconds(100))) < seconds(5)
    assert abs(run.finished - run.started - seconds(60)) < seconds(0.001)


@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_process_with_a_wrong_clock_records_right_times(store):
    job = claimed(store)
    before = clock(store)
    run = a_run(job)
    with freeze_time("2001-01-01"):
        run.began = time.monotonic()
        record(store, transition(job, "COMPLETE", run=run))
    row, (kept,) = reread(store, job), runs(store, job)
    after = clock(store)
    assert before <= row.finished <= after and before <= row.modified <= after
    assert before <= kept.started <= after


def test_history_counts_back_from_the_time_that_the_caller_gives(store):
    job = claimed(store, now=NOW)
    record(store, transition(job, run=a_run(job, began=time.monotonic() - 10, seconds=4.0)), now=NOW)
    (run,) = runs(store, job)
    assert abs(run.started - (NOW - seconds(10))) < seconds(5)
    assert abs(run.finished - run.started - seconds(4)) < seconds(0.001)


# Jobs that somebody asked to cancel.


def test_a_cancelled_job_goes_on_no_more(store):
    job = claimed(store)
    store.cancel([job.id])
    assert record(store, transition(job, delay_seconds=60, run=a_run(job))) == {job.id: "CANCELLED"}
    row = reread(store, job)
    assert (row.state, row.claimed_by, row.lease_until) == ("CANCELLED", None, None)
    assert row.finished is not None and not row.cancel_requested
    assert len(runs(store, job)) == 1


def test_a_cancelled_job_is_not_held_on(store):
    job = claimed(store)
    store.cancel([job.id])
    assert record(store, held_on(job)) == {job.id: "CANCELLED"}
    row = reread(store, job)
    assert (row.state, row.claim, row.claimed_by, row.lease_until) == ("CANCELLED", 1, None, None)


@pytest.mark.parametrize("state", ["COMPLETE", "FAILED"])
def test_a_job_that_ends_before_its_cancel_is_seen_ends_as_it_would(store, state):
    job = claimed(store)
    store.cancel([job.id])
    assert record(store, transition(job, state)) == {job.id: state}
    row = reread(store, job)
    assert row.state == state and not row.cancel_requested


def waits_for_a_lock(store):
    statement = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        # Asked for more often than every 100 ms, it answers as it did before.
        "mysql": "SELECT SLEEP(0.2), count(*) FROM information_schema.innodb_trx"
        " WHERE trx_state = 'LOCK WAIT'",
    }
    with connections[store.using].cursor() as cursor:
        cursor.execute(statement[connections[store.using].vendor])
        return cursor.fetchone()[-1]


@committed
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_a_cancel_that_commits_while_the_record_waits_is_not_lost(store):
    job, cancelled, waiting = claimed(store), threading.Event(), threading.Event()

    def cancel():
        with atomic(using=store.using):
            store.cancel([job.id])
            cancelled.set()
            waiting.wait(20)

    def write():
        cancelled.wait(20)
        return record(store, transition(job))

    def watch():
        try:
            cancelled.wait(20)
            wait_until(lambda: waits_for_a_lock(store), "the record waits")
        finally:
            waiting.set()

    assert together(3, lambda number: (cancel, watch, write)[number]())[2] == {job.id: "CANCELLED"}


@committed
def test_workers_that_record_at_once_do_not_hinder_each_other(store):
    jobs = [[claimed(store, worker=f"worker-{number}") for _ in range(10)] for number in range(4)]

    def write(number):
        mine = jobs[number] if number % 2 else jobs[number][::-1]
        answer = {}
        for _ in range(5):
            answer = record(store, *(held_on(job) for job in mine), worker=f"worker-{number}")
            for job in mine:
                job.claim += 1
        return answer

    assert [len(answer) for answer in together(4, write)] == [10, 10, 10, 10]
    assert set(Job.objects.using(store.using).values_list("claim", flat=True)) == {6}
