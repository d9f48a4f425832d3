"""run_jobs: due jobs run here and now, in a project's own tests."""

from __future__ import annotations

import datetime
import signal

import freezegun
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils import timezone

from django_dbq import Job, Retry, SettingsError, Snooze
from django_dbq.testing import run_jobs
from tests.models import Row

HERE = f"{__name__}."
NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
RAN = []


def note(job):
    RAN.append(job.workspace.get("n"))


def create_another(job):
    RAN.append("first")
    Job.objects.create(name="note", workspace={"n": "second"}, queue_name="elsewhere")


def nap(job):
    job.workspace["naps"] = job.workspace.get("naps", 0) + 1
    return Snooze(3600) if job.workspace["naps"] < 3 else None


def fail_for_a_day(job):
    RAN.append(timezone.now())
    raise Retry(86_400)


def break_a_rule(job):
    row = Row.objects.create(text="before")
    try:
        Row.objects.create(pk=row.pk, text="again")
    except IntegrityError:
        RAN.append("caught")
    if job.workspace.get("uncaught"):
        Row.objects.create(pk=row.pk, text="again")


def break_sql(job):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


def press_ctrl_c(job):
    raise KeyboardInterrupt


JOBS = {
    "note": [f"{HERE}note"],
    "note five times": [f"{HERE}note"] * 5,
    "create": [f"{HERE}create_another"],
    "nap": [f"{HERE}nap"],
    "retry": {"tasks": [f"{HERE}fail_for_a_day"], "retry": {"max_attempts": 3}},
    "break a rule": [f"{HERE}break_a_rule", f"{HERE}note"],
    "break sql": [f"{HERE}break_sql"],
    "ctrl-c": [f"{HERE}press_ctrl_c"],
    "gone": ["tests.test_run_jobs.gone"],
}


@pytest.fixture(autouse=True)
def jobs(settings):
    settings.JOBS = JOBS
    RAN.clear()


pytestmark = pytest.mark.django_db


def state(job):
    return Job.objects.values_list("state", flat=True).get(pk=job.pk)


def test_without_a_name_every_queue_is_served():
    for name in ("default", "other", "third"):
        Job.objects.create(name="note", queue_name=name)
    assert run_jobs() == 3
    assert run_jobs() == 0


def test_with_names_those_queues_are_served():
    for name in ("a", "b", "c"):
        Job.objects.create(name="note", queue_name=name, workspace={"n": name})
    assert run_jobs("a", "c") == 2
    assert sorted(RAN) == ["a", "c"]
    assert run_jobs("nobody") == 0


def test_what_is_most_urgent_runs_first():
    for n, priority in enumerate([0, 5, -5, 5]):
        Job.objects.create(name="note", workspace={"n": n}, priority=priority)
    run_jobs()
    assert RAN == [1, 3, 0, 2]


def test_a_limit_counts_jobs_and_each_of_them_runs_all_its_tasks():
    jobs = [Job.objects.create(name="note five times", workspace={"n": n}) for n in range(3)]
    assert run_jobs(limit=0) == 0 and RAN == []
    assert run_jobs(limit=2) == 2
    assert [state(job) for job in jobs] == ["COMPLETE", "COMPLETE", "NEW"] and len(RAN) == 10
    jobs[2].refresh_from_db()
    assert (jobs[2].attempt, jobs[2].claimed_by) == (0, None)
    assert run_jobs(limit=2) == 1


def test_jobs_that_tasks_create_are_run_too():
    Job.objects.create(name="create")
    assert run_jobs() == 2
    assert RAN == ["first", "second"]


def test_a_parked_job_is_not_counted():
    job = Job.objects.create(name="gone")
    assert run_jobs() == 0 and state(job) == "NEW"


def test_the_clock_of_the_test_decides_what_is_due():
    with freezegun.freeze_time(NOW) as clock:
        job = Job.objects.create(name="note", run_after=NOW + datetime.timedelta(hours=1))
        assert run_jobs() == 0
        clock.tick(3599)
        assert run_jobs() == 0
        clock.tick(1)
        assert run_jobs() == 1
        job.refresh_from_db()
        assert (job.state, job.finished) == ("COMPLETE", NOW + datetime.timedelta(hours=1))


@pytest.mark.parametrize("year", [1999, 2099])
def test_any_year_will_do(year):
    with freezegun.freeze_time(f"{year}-06-01"):
        job = Job.objects.create(name="note five times")
        assert run_jobs() == 1 and state(job) == "COMPLETE"


def test_a_snoozed_job_runs_when_the_clock_has_moved_on():
    with freezegun.freeze_time(NOW) as clock:
        job = Job.objects.create(name="nap")
        assert [run_jobs(), run_jobs()] == [1, 0]
        clock.tick(3600)
        assert [run_jobs(), run_jobs()] == [1, 0]
        clock.tick(3600)
        assert run_jobs() == 1 and state(job) == "COMPLETE"


def test_a_retry_comes_when_the_clock_has_moved_on():
    with freezegun.freeze_time(NOW) as clock:
        job = Job.objects.create(name="retry")
        while state(job) != "FAILED":
            run_jobs()
            clock.tick(datetime.timedelta(days=1))
    assert [NOW + datetime.timedelta(days=n) for n in range(3)] == RAN


def test_a_database_error_in_a_plain_task_leaves_the_transaction_of_the_test_whole():
    before = Row.objects.create(text="of the test")
    caught = Job.objects.create(name="break a rule")
    uncaught = Job.objects.create(name="break a rule", workspace={"uncaught": True})
    sql = Job.objects.create(name="break sql")
    last = Job.objects.create(name="note")
    assert run_jobs() == 4
    assert [state(job) for job in (uncaught, sql, last)] == ["FAILED", "FAILED", "COMPLETE"]
    # What comes after a failed statement is refused by PostgreSQL, in a transaction.
    assert state(caught) == "COMPLETE" and RAN[0] == "caught"
    assert Row.objects.filter(pk=before.pk).exists()
    with transaction.atomic():
        assert Row.objects.create(text="and after it").pk


def test_a_transaction_of_the_test_that_is_broken_already_is_an_error_of_the_test():
    Job.objects.create(name="note")
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        transaction.set_rollback(True)
        run_jobs()


def test_ctrl_c_ends_the_test_and_not_the_attempt():
    Job.objects.create(name="ctrl-c")
    # What starts the tests in the background may have made them deaf to it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs()
    finally:
        signal.signal(signal.SIGINT, before)


def test_settings_at_fault_are_an_error_of_the_test(settings):
    Job.objects.create(name="note")
    settings.JOBS = {"note": 5}
    with pytest.raises(SettingsError, match=r"JOBS\['note'\]"):
        run_jobs()


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    job = Job.objects.using("jobs").create(name="note", workspace={"n": 1})
    assert run_jobs() == 0
    assert run_jobs(database="jobs") == 1
    job.refresh_from_db()
    assert job.state == "COMPLETE" and job._state.db == "jobs" and not Job.objects.exists()


@override_settings(JOBS=JOBS)
class InATestCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.job = Job.objects.create(name="note five times")

    def test_a_job_runs_in_the_transaction_of_the_test(self):
        assert not Row.objects.exists()
        assert run_jobs() == 1
        self.job.refresh_from_db()
        assert self.job.state == "COMPLETE"
        Row.objects.create(text="gone with the test")

    def test_a_job_runs_in_the_transaction_of_the_next_test_again(self):
        self.test_a_job_runs_in_the_transaction_of_the_test()

    def test_nothing_is_announced_before_the_commit(self):
        with self.captureOnCommitCallbacks() as callbacks:
            Job.objects.create(name="note")
            Job.objects.create(name="note")
            run_jobs()
        with self.captureOnCommitCallbacks(execute=True) as none:
            pass
        assert len(callbacks) == (2 if connection.vendor == "postgresql" else 0) and none == []


@override_settings(JOBS=JOBS)
class InATransactionTestCase(TransactionTestCase):
    def test_a_job_runs(self):
        job = Job.objects.create(name="note five times")
        assert run_jobs() == 1 and state(job) == "COMPLETE"
        with pytest.raises(DatabaseError), transaction.atomic():
            Row.objects.create(pk=Row.objects.create(text="x").pk, text="y")
