"""job.execute(): a call run here and now, never beside a worker, never in a transaction of the caller's."""

from __future__ import annotations

import threading

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from django_dbq import Abort, BadSignature, DBQError, Job, TaskRun, WorkspaceError, schedule
from django_dbq.exceptions import TaskUnavailable
from django_dbq.models import Group
from django_dbq.testing import run_jobs
from tests.calls import functions
from tests.calls.functions import HERE
from tests.conftest import wait_until
from tests.models import Row
from tests.store.helpers import locked, together

in_a_test = pytest.mark.django_db
outside = pytest.mark.django_db(transaction=True)
# Inside the transaction of a TestCase, and where there is none.
both = pytest.mark.parametrize(
    "where", [pytest.param("in a test", marks=in_a_test), pytest.param("outside", marks=outside)]
)


def texts():
    return sorted(Row.objects.values_list("text", flat=True))


def runs(job, *fields):
    found = TaskRun.objects.filter(job=job).order_by("claim")
    return list(found.values_list(*fields, flat=len(fields) == 1))


@both
@pytest.mark.parametrize("function", [functions.write, functions.write_async])
def test_it_returns_what_the_function_returns_and_records_it(where, function):
    job = schedule(function, ["here"])
    assert job.execute() == "here"
    assert (job.state, job.result, texts()) == ("COMPLETE", "here", ["here"])
    assert (job.claimed_by, job.lease_until, job.attempt) == (None, None, 1)
    assert runs(job, "outcome", "worker") == [("done", "execute")]


@both
def test_it_runs_a_job_that_is_not_due(where):
    job = schedule(functions.write, run_after=timezone.now() + timezone.timedelta(days=1))
    assert job.execute() == "written"


@both
def test_it_raises_what_the_function_raises_once_that_is_recorded(where):
    job = schedule(functions.write_and_fail)
    with pytest.raises(ValueError, match=r"^uh oh$"):
        job.execute()
    assert (job.state, job.error, job.attempt, job.priority) == ("READY", "ValueError: uh oh", 1, 4)
    assert job.run_after > timezone.now() and texts() == []
    ((outcome, error),) = runs(job, "outcome", "error")
    assert outcome == "failed" and "in write_and_fail" in error


@both
def test_what_failed_may_be_executed_again_before_its_time(where):
    job = schedule(functions.fail_until, [1])
    with pytest.raises(ValueError, match="not yet"):
        job.execute()
    assert job.execute() == "at last"
    assert runs(job, "outcome") == ["failed", "done"] and texts() == ["written"]


@both
@pytest.mark.parametrize(
    "function, error, state",
    [
        (functions.write_and_abort, Abort, "FAILED"),
        (functions.write_and_return_an_object, WorkspaceError, "READY"),
        (f"{HERE}.fail_in_the_database", IntegrityError, "READY"),
        (f"{HERE}.exit", SystemExit, "READY"),
    ],
)
def test_whatever_the_function_does_is_recorded(where, function, error, state):
    job = schedule(function)
    with pytest.raises(error):
        job.execute()
    assert (job.state, job.attempt, texts()) == (state, 1, [])
    assert error.__name__ in job.error


@both
def test_a_call_that_is_not_atomic_keeps_the_writes_of_its_failure(where):
    job = schedule(functions.write_and_fail, meta={"atomic": False})
    with pytest.raises(ValueError):
        job.execute()
    assert (job.state, texts()) == ("READY", ["written"])


@both
def test_directives_mean_what_they_mean_in_a_worker(where):
    job = schedule(functions.write_and_snooze)
    assert job.execute() is None and (job.state, job.attempt) == ("READY", 0)
    assert job.execute() == "awake" and job.state == "COMPLETE"
    job = schedule(functions.write_and_finish)
    assert job.execute() == {"finished": True} and job.state == "COMPLETE"


@both
def test_a_row_that_was_changed_fails_here_too(where):
    job = schedule(functions.write)
    Job.objects.filter(pk=job.pk).update(queue_name="other")
    with pytest.raises(BadSignature):
        job.execute()
    assert (job.state, texts()) == ("FAILED", [])


@both
def test_a_function_that_has_gone_parks_its_job(where, monkeypatch):
    monkeypatch.setattr(functions, "passing", functions.write, raising=False)
    job = schedule(f"{HERE}.passing")
    monkeypatch.undo()
    with pytest.raises(TaskUnavailable, match=f"'{HERE}.passing' does not import"):
        job.execute()
    assert (job.state, job.attempt, runs(job, "pk")) == ("NEW", 0, [])
    assert job.run_after > timezone.now()


# Where it refuses.


def refused(job, message):
    before = Job.objects.values().get(pk=job.pk)
    with pytest.raises(DBQError) as caught:
        job.execute()
    assert message in str(caught.value)
    assert Job.objects.values().get(pk=job.pk) == before and texts() == []
    return str(caught.value)


@both
def test_it_refuses_inside_an_atomic_block_and_says_why(where):
    job = schedule(functions.write)
    with transaction.atomic():
        said = refused(job, f"job {job.pk} ({HERE}.write) cannot be executed within an atomic block")
    assert "its failure could not be recorded apart from yours" in said
    assert "nor its success kept if yours is rolled back" in said
    assert "leave the job to a worker: it runs once you have committed" in said
    assert job.execute() == "written"


@both
def test_it_refuses_within_another_call(where):
    job, outer = schedule(functions.write), schedule(functions.execute_another)
    Job.objects.filter(pk=outer.pk).update(run_after=None)
    with pytest.raises(DBQError, match="within an atomic block"):
        outer.execute()
    job.refresh_from_db()
    assert (job.state, texts()) == ("NEW", [])


@outside
def test_it_refuses_where_the_caller_commits_by_hand():
    job = schedule(functions.write)
    transaction.set_autocommit(False)
    try:
        refused(job, "within an atomic block")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert job.execute() == "written"


@both
def test_it_refuses_in_a_block_that_is_broken_and_says_why_all_the_same(where):
    job = schedule(functions.write)
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(DBQError, match="within an atomic block"):
            job.execute()
    assert texts() == []


@both
def test_it_refuses_what_is_no_call(where):
    job = Job.objects.create(name="nothing")
    refused(job, f"job {job.pk} (nothing) is no function call; a worker runs its tasks")


@both
def test_it_refuses_a_job_that_is_not_saved(where):
    with pytest.raises(DBQError, match="is no function call"):
        Job(name="nothing").execute()


@both
def test_it_refuses_what_has_ended(where):
    job = schedule(functions.nothing)
    job.execute()
    refused(job, f"job {job.pk} ({HERE}.nothing) does not wait to be run: it is COMPLETE")
    job = schedule(functions.fail, meta={"retry": {"max_attempts": 1}})
    with pytest.raises(ValueError):
        job.execute()
    refused(job, "does not wait to be run: it is FAILED")
    job = schedule(functions.write)
    job.cancel()
    refused(job, "does not wait to be run: it is CANCELLED")


@both
@pytest.mark.parametrize("state", ["PROCESSING", "STOPPING"])
def test_it_refuses_what_a_worker_holds(where, state):
    job = schedule(functions.write)
    Job.objects.filter(pk=job.pk).update(state=state, claimed_by="one", lease_until=timezone.now())
    refused(job, f"does not wait to be run: it is {state}")
    assert job.state == state


@both
def test_it_refuses_a_final_job_before_its_time(where):
    schedule(functions.nothing, group="group")
    with transaction.atomic():
        job = schedule(functions.write)
        Group.objects.get().on_completion(job)
    refused(job, "does not wait to be run: it is WAITING")


@both
def test_it_refuses_what_is_deleted(where):
    job = schedule(functions.write)
    Job.objects.all().delete()
    with pytest.raises(DBQError, match="does not wait to be run: it is deleted"):
        job.execute()


# Beside others.


@outside
@pytest.mark.postgresql
def test_it_refuses_a_row_that_another_transaction_holds():
    job = schedule(functions.write)

    class Store:
        using = "default"

    with locked(Store, job):
        refused(job, "does not wait to be run: another transaction holds its row")
    assert job.execute() == "written"


def in_thread(function):
    """Call a function in a thread; return the thread and what it will have returned or raised."""
    found = []

    def call():
        try:
            found.append(function())
        except Exception as error:
            found.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=call)
    thread.start()
    return thread, found


@outside
def test_a_worker_beside_it_never_runs_the_same_job(manage, tmp_path):
    job = schedule(functions.write_when_told, [str(tmp_path)])
    thread, found = in_thread(job.execute)
    wait_until(lambda: [*tmp_path.glob("began-*")], "the call to begin")
    worker = manage("worker", "--burst")
    if connection.vendor == "sqlite":  # The call has the only write lock: a worker waits for it.
        wait_until(lambda: "Starting job worker" in worker.log(), "the worker to start")
    else:
        assert worker.wait() == 0, worker.log()
        refused(Job.objects.get(pk=job.pk), "another transaction holds its row")
    (tmp_path / "go-on").touch()
    thread.join(30)
    assert worker.wait() == 0, worker.log()
    assert found == [None] and texts() == ["written"]
    assert runs(job, "outcome", "worker") == [("done", "execute")]
    assert len([*tmp_path.glob("began-*")]) == 1


@outside
def test_it_refuses_what_a_worker_runs_at_that_moment(manage, tmp_path):
    job = schedule(functions.write_when_told, [str(tmp_path)], meta={"atomic": False})
    worker = manage("worker", "--burst")
    wait_until(lambda: [*tmp_path.glob("began-*")], "the call to begin")
    refused(job, "does not wait to be run: it is PROCESSING")
    (tmp_path / "go-on").touch()
    assert worker.wait() == 0, worker.log()
    assert texts() == ["written"] and len(runs(job, "pk")) == 1


@outside
def test_each_job_runs_once_however_many_execute_it_beside_a_worker(manage):
    jobs = [schedule(functions.write, [str(number)]) for number in range(40)]
    worker = manage("worker", "--burst")

    def execute_all(number):
        done = 0
        for job in Job.objects.filter(pk__in=[job.pk for job in jobs]).order_by("-pk" if number else "pk"):
            try:
                job.execute()
                done += 1
            except DBQError as error:
                assert "does not wait to be run" in str(error)
        return done

    done = sum(together(2, execute_all))
    assert worker.wait() == 0, worker.log()
    run_jobs()  # What the worker found locked, it may have left.
    assert texts() == sorted(str(number) for number in range(40))
    assert set(Job.objects.values_list("state", flat=True)) == {"COMPLETE"}
    assert TaskRun.objects.count() == 40
    assert done == TaskRun.objects.filter(worker="execute").count() > 0


@outside
def test_a_process_that_ends_leaves_the_job_as_it_was():
    job = schedule(functions.write_and_cut_the_connection)
    before = Job.objects.values().get(pk=job.pk)
    with pytest.raises(Exception) as caught:
        job.execute()
    assert not isinstance(caught.value, DBQError)
    connection.close()
    assert Job.objects.values().get(pk=job.pk) == before and texts() == []


# What the function leaves to be called on commit.


@outside
def test_what_is_left_for_the_commit_is_called_after_it():
    schedule(functions.write_and_later).execute()
    assert functions.LATER == ["later"]
    with pytest.raises(ValueError):
        schedule(functions.write_later_and_fail).execute()
    assert functions.LATER == ["later"]


@outside
def test_what_raises_after_the_commit_reaches_the_caller_and_the_job_is_complete():
    job = schedule(functions.write_and_fail_later)
    with pytest.raises(ValueError, match="too late"):
        job.execute()
    assert (job.state, texts()) == ("COMPLETE", ["written"])
