"""health(): how the queue does, in the words of django-async."""

from __future__ import annotations

import datetime
import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_dbq import Job, TaskRun, WorkerProcess, health, schedule
from django_dbq.engine.lifecycle import State
from django_dbq.testing import run_jobs
from tests.models import Row

pytestmark = pytest.mark.django_db

MAIL, BILL = "tests.test_health.mail", "tests.test_health.bill"


@pytest.fixture(autouse=True)
def _small_tables():
    """Other tests leave tables that are large for what is in them, and of a large one a sample is read."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE django_dbq_job, django_dbq_taskrun")


def mail():
    Row.objects.create(text="mail")


def bill():
    raise ValueError("no money")


def ago(seconds):
    return timezone.now() - datetime.timedelta(seconds=seconds)


def make(count, name=MAIL, **columns):
    """Make calls of a function, and set columns of theirs that no caller can."""
    args = ["a job"] if name.startswith("tests.workflows.") else []
    jobs = [schedule(name, args) for _ in range(count)]
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(**columns)
    return [Job.objects.get(pk=job.pk) for job in jobs]


def held(name=MAIL, seconds=0.0, **columns):
    columns = {"claimed_by": "one", "lease_until": timezone.now(), "modified": ago(seconds), **columns}
    return make(1, name, state="PROCESSING", **columns)


def ran(task, *seconds, job=None):
    """Leave a history: attempts at a task that took so long."""
    for taken in seconds:
        of = job or make(1, task, state="COMPLETE", finished=timezone.now())[0]
        end = timezone.now()
        TaskRun.objects.create(
            job=of,
            claim=of.runs.count() + 1,
            task=task,
            position=0,
            attempt=1,
            worker="one",
            started=end - datetime.timedelta(seconds=taken),
            finished=end,
            outcome="done",
        )


def alive(name, threads=1, seen=0.0):
    WorkerProcess.objects.create(
        name=name,
        host="here",
        pid=1,
        queue_names=["default"],
        threads=threads,
        started=ago(60),
        seen=ago(seen),
    )


# Counts.


def test_it_tells_what_has_run_and_what_has_not():
    schedule(mail)
    failing = schedule(bill, meta={"retry": {"max_attempts": 1}})
    waiting = schedule(bill, run_after=timezone.now() + datetime.timedelta(hours=1))
    run_jobs()
    found = health()
    assert found["queue"]["all-jobs"] == 3
    assert found["queue"]["executed"] == 1
    assert found["queue"]["executed-details"] == {MAIL: {"count": 1}}
    assert found["queue"]["failed"] == 1
    assert found["queue"]["failed-details"] == {BILL: {"count": 1}}
    assert found["queue"]["remaining"] == found["queue"]["not-executed"] == 1
    assert found["queue"]["not-executed-details"] == {BILL: {"count": 1}}
    assert found["errors"] == {"number": 1}
    assert found["queue"]["states"] == {**dict.fromkeys(State, 0), "COMPLETE": 1, "FAILED": 1, "NEW": 1}
    waiting.cancel()
    failing.refresh_from_db()
    found = health()["queue"]
    assert (found["cancelled"], found["cancelled-details"]) == (1, {BILL: {"count": 1}})
    assert (found["remaining"], found["not-executed-details"]) == (0, {})


def test_every_key_of_the_original_is_there():
    found = health()
    assert set(found) >= {"queue", "errors"}
    assert set(found["errors"]) >= {"number"}
    assert set(found["queue"]) >= {
        *("all-jobs", "executed", "executed-details", "oldest-executed", "most-recent-executed"),
        *("remaining", "not-executed", "not-executed-details", "cancelled", "cancelled-details"),
        *("oldest-cancelled", "most-recent-cancelled"),
        *("estimated-completion-current-job", "estimated-completion"),
    }


def test_it_is_json():
    make(2, state="COMPLETE", finished=timezone.now())
    make(1, state="CANCELLED", finished=timezone.now())
    ran(MAIL, 1.0)
    held()
    found = health()
    assert json.loads(json.dumps(found)) == found


def test_every_unfinished_state_remains():
    for state in State:
        make(1, state=state)
    found = health()["queue"]
    assert (found["all-jobs"], found["remaining"]) == (8, 5)


def test_a_state_of_the_projects_own_is_shown():
    make(2, state="ON_ICE")
    found = health()["queue"]
    assert (found["all-jobs"], found["states"]["ON_ICE"], found["remaining"]) == (2, 2, 0)


def test_a_job_that_will_try_again_is_an_error():
    schedule(bill)
    run_jobs()
    assert health()["errors"] == {"number": 1}


@pytest.mark.parametrize(("state", "word"), [("COMPLETE", "executed"), ("CANCELLED", "cancelled")])
def test_the_first_and_the_last_to_end_are_named(state, word):
    ends = [ago(seconds) for seconds in (300, 400, 100, 200)]
    jobs = [make(1, state=state, finished=end)[0] for end in ends]
    found = health()["queue"]
    for key, which in (("oldest", 1), ("most-recent", 2)):
        wanted = {"id": str(jobs[which].pk), "name": MAIL, "finished": ends[which].isoformat()}
        assert found[f"{key}-{word}"] == wanted


def test_a_queue_without_jobs_has_nothing_to_tell():
    found = health()
    queue = found["queue"]
    assert queue["all-jobs"] == queue["remaining"] == 0
    assert queue["executed-details"] == {}
    assert queue["oldest-executed"] is queue["most-recent-cancelled"] is queue["oldest-due-age"] is None
    assert queue["estimated-completion"] == queue["estimated-completion-current-job"] == 0
    assert queue["estimated"] == []
    assert found["workers"] == {"alive": 0, "threads": 0}


# Workers, and what waits for them.


def test_a_worker_is_alive_that_was_seen_within_a_lease(settings):
    settings.DBQ = {"LEASE_SECONDS": 20}
    alive("one", threads=3, seen=10)
    alive("two", threads=2, seen=1)
    alive("killed", threads=8, seen=30)
    assert health()["workers"] == {"alive": 2, "threads": 5}


def test_the_age_of_the_oldest_due_job_is_told_in_seconds():
    make(1, created=ago(50))
    make(1, created=ago(900), run_after=ago(70))
    make(1, created=ago(900), run_after=timezone.now() + datetime.timedelta(hours=1))
    assert health()["queue"]["oldest-due-age"] == pytest.approx(70, abs=5)


# Estimates.


def completion(algorithm="rough"):
    return health(algorithm)["queue"]["estimated-completion"]


def test_nothing_tells_when_jobs_will_be_done_that_have_no_past():
    make(3)
    held()
    for algorithm in ("rough", "precise"):
        assert completion(algorithm) is None
    assert health()["queue"]["estimated-completion-current-job"] is None


def test_the_rough_estimate_is_jobs_times_average_by_threads():
    ran(MAIL, 1.0, 1.0, 4.0)
    make(10)
    make(10, state="WAITING")
    assert completion() == 40
    alive("one", threads=4)
    alive("two", threads=4)
    assert completion() == 5


def test_the_rough_average_is_that_of_all_attempts_at_a_job():
    (job,) = make(1, state="COMPLETE", finished=timezone.now())
    ran(MAIL, 2.0, 3.0, job=job)
    make(10)
    assert completion() == 50


def test_the_precise_estimate_knows_each_function():
    ran(MAIL, 1.0, 3.0)
    ran(BILL, 10.0)
    make(5)
    make(2, BILL)
    assert completion("precise") == 5 * 2 + 2 * 10
    alive("one", threads=3)
    assert completion("precise") == 10


def test_the_precise_estimate_takes_a_function_without_a_past_for_any_other():
    ran(MAIL, 1.0, 3.0)
    make(5, BILL)
    assert completion("precise") == 10


def test_the_precise_estimate_adds_up_the_tasks_of_a_workflow():
    ran("tests.workflows.nothing", 1.0)
    ran("tests.workflows.count", 2.0)
    Job.objects.create(name="nothing_then_count")
    assert completion("precise") == 3


def test_the_precise_estimate_counts_what_is_left_of_running_jobs():
    ran(MAIL, 100.0)
    held(seconds=30)
    held(seconds=500)  # Takes longer than usual: nothing tells how much is left.
    assert completion("precise") == pytest.approx(70, abs=5)


def test_a_running_workflow_has_its_later_tasks_before_it():
    ran("tests.workflows.nothing", 100.0)
    ran("tests.workflows.count", 1000.0)
    job = Job.objects.create(name="nothing_then_count")
    columns = {"state": "PROCESSING", "claimed_by": "one", "lease_until": timezone.now()}
    Job.objects.filter(pk=job.pk).update(modified=ago(40), **columns)
    assert completion("precise") == pytest.approx(1060, abs=5)


def test_the_current_job_is_done_when_the_last_of_the_running_ones_is():
    ran(MAIL, 100.0)
    ran(BILL, 50.0)
    held(seconds=90)
    held(BILL, seconds=10)
    assert health()["queue"]["estimated-completion-current-job"] == pytest.approx(40, abs=5)


def test_only_the_newest_of_the_history_counts(monkeypatch):
    monkeypatch.setattr("django_dbq.metrics.RUNS_MAX", 2)
    ran(MAIL, 1000.0, 1.0, 3.0)
    make(1)
    assert completion() == completion("precise") == 2


def test_running_jobs_that_were_not_looked_at_count_as_whole_ones(monkeypatch):
    monkeypatch.setattr("django_dbq.metrics.RUNNING_MAX", 1)
    ran(MAIL, 100.0)
    held(seconds=500)
    held(seconds=500)
    assert completion("precise") == pytest.approx(100, abs=5)


def test_another_algorithm_is_refused():
    with pytest.raises(ValueError, match="algorithm must be 'rough' or 'precise', not 'exact'"):
        health("exact")


# What it costs.


@pytest.mark.parametrize("algorithm", ["rough", "precise"])
def test_the_number_of_queries_does_not_depend_on_the_number_of_jobs(algorithm, django_assert_num_queries):
    with CaptureQueriesContext(connection) as before:
        health(algorithm)
    counts = []
    for count in (10, 1_000):
        Job.objects.bulk_create(Job(name="nothing", priority=number % 50) for number in range(count))
        Job.objects.bulk_create(Job(name="five", queue_name=f"q{number}") for number in range(count // 10))
        Job.objects.filter(name="nothing", priority__gt=30).update(state="COMPLETE", finished=timezone.now())
        ran(MAIL, *[1.0] * (count // 50))
        held()
        with django_assert_num_queries(len(before)):
            counts.append(health(algorithm)["queue"]["all-jobs"])
    assert counts == [12, 1_133]
    assert len(before) <= 11


def test_it_writes_and_locks_nothing():
    make(3)
    ran(MAIL, 1.0)
    with CaptureQueriesContext(connection) as seen:
        health("precise")
    for query in seen.captured_queries:
        words = query["sql"].upper().split()
        assert not {"INSERT", "UPDATE", "DELETE", "LOCK"} & set(words), query["sql"]


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    make(3)
    Job.objects.using("jobs").create(name="nothing")
    assert health(using="jobs")["queue"]["all-jobs"] == 1
