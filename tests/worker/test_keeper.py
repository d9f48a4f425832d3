"""What the keeper does with its time; what it does with jobs is seen in the other files."""

from __future__ import annotations

import time

import pytest
from django.db import DataError, connection
from django.test.utils import CaptureQueriesContext

from django_dbq import Job, conf, schedule
from django_dbq.store.base import AWAITED_SECONDS
from django_dbq.worker.backlog import Backlog
from django_dbq.worker.executor import Executor
from django_dbq.worker.keeper import Keeper, Word, _refuse
from django_dbq.worker.pace import Pace
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.slot import Slot


@pytest.mark.django_db
def test_a_keeper_whose_rate_limit_has_passed_waits_while_a_task_runs():
    settings = WorkerSettings(using="default", rate_limit_seconds=0.1)
    keeper = Keeper(settings, Executor("default", "host:1:abc"), Backlog(), [Slot()], lambda: None)
    keeper._keep_up()
    assert keeper._patience() == 0.0  # Nothing is held: it may claim now.
    job = Job(name="nothing")
    keeper._held[job.id] = job
    assert keeper._patience() > 0.0


@pytest.mark.django_db(transaction=True)
def test_an_idle_round_is_a_few_statements_and_one_between_the_polls_is_none():
    """Paused queues, fire, stage, wake, rescue and claim; every third of a lease also a report."""
    settings = WorkerSettings(using="default")
    keeper = Keeper(settings, Executor("default", "host:1:abc"), Backlog(), [Slot()], lambda: None)

    def a_round():
        with CaptureQueriesContext(connection) as ran:
            keeper._report()
            keeper._keep_up()
            keeper._claim()
            keeper._extend()
        return [query["sql"] for query in ran]

    a_round()
    assert a_round() == []
    keeper._upkeep.due_at = 0.0
    statements = a_round()
    assert len(statements) <= {"postgresql": 6, "sqlite": 9, "mysql": 12}[connection.vendor], statements
    keeper._upkeep.ended(1)
    keeper._upkeep.wake_at = 0.0
    assert len(a_round()) == 1  # One look at that group.


@pytest.fixture
def keeper():
    """One that has claimed three jobs, has other news to look at first, and has not taken them in."""
    executor = Executor("default", "host:1:abc")
    keeper = Keeper(WorkerSettings(using="default"), executor, Backlog(), [Slot()] * 3, lambda: None)
    for _ in range(3):
        Job.objects.create(name="nothing")
    keeper._keep_up()
    keeper.inbox.put(Word.WAKE)
    keeper._claim()
    assert (len(keeper.backlog), keeper._held) == (3, {})
    return keeper


def give_back(keeper):
    """Have it give back all that it has, and claim as a new one does."""
    keeper._begin_stop()
    keeper._stopping, keeper.backlog = False, Backlog()
    keeper._hungry, keeper.pace = True, Pace(0.05, 500, 3)


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_to_stop_gives_back_a_claim_that_nobody_has_read(keeper):
    keeper._begin_stop()
    assert not keeper._holds
    assert set(Job.objects.values_list("state", "attempt", "claimed_by")) == {("NEW", 0, None)}


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_has_claimed_is_not_done_before_it_has_looked_at_its_claim(keeper):
    keeper.settings, keeper._hungry = WorkerSettings(using="default", burst=True), False
    assert not keeper._spent() and keeper._session.needed()


@pytest.mark.django_db(transaction=True)
def test_a_job_that_ends_before_its_claim_was_taken_in_is_held_no_more(keeper):
    first = keeper.backlog.take()
    keeper.inbox.put(keeper.executor.run(first))
    keeper._collect(0)
    keeper._record()
    assert len(keeper._held) == 2 and first.id not in keeper._held
    assert Job.objects.get(state="COMPLETE").id == first.id


@pytest.mark.django_db(transaction=True)
def test_of_jobs_that_may_have_killed_a_worker_all_but_one_go_back(keeper):
    give_back(keeper)
    Job.objects.update(lost_attempts=1)
    keeper._claim()
    keeper._hungry = False
    keeper.pace.observe("nothing", 0.0)
    keeper._take_in()
    assert (len(keeper._held), len(keeper.backlog)) == (1, 1)
    assert Job.objects.filter(claimed_by=None, attempt=0).count() == 2
    assert keeper._hungry and keeper.pace.limit(backlog=3, idle=3) == 0  # Though it was quick.


@pytest.mark.django_db(transaction=True)
def test_leases_of_a_claim_are_trusted_a_little_shorter_than_they_last(keeper):
    lease = conf.options().LEASE_SECONDS
    until = keeper.backlog.take().trusted_until - time.monotonic()
    assert 0.8 * lease < until <= 0.95 * lease


@pytest.mark.django_db(transaction=True)
def test_the_time_limit_of_a_call_is_watched_from_its_claim_on(keeper):
    keeper._take_in()
    give_back(keeper)
    Job.objects.all().delete()
    schedule("tests.calls.functions.echo", args=[1])
    keeper._timeouts = False
    keeper._claim()
    keeper._take_in()
    assert keeper._timeouts


@pytest.mark.django_db
def test_who_waited_for_jobs_of_others_is_forgotten_after_a_while(monkeypatch):
    keeper = Keeper(
        WorkerSettings(using="default"), Executor("default", "host:1:abc"), Backlog(), [Slot()], lambda: None
    )
    now = time.monotonic()
    for second in range(100):
        monkeypatch.setattr(time, "monotonic", lambda second=second: now + second)
        keeper.awaited([f"{second:032x}", "again and again"])
    assert len(keeper._awaited) <= AWAITED_SECONDS + 2
    assert "again and again" in keeper._awaited and f"{99:032x}" in keeper._awaited


@pytest.mark.django_db(transaction=True)
def test_of_why_a_record_was_refused_a_row_keeps_what_it_can_hold_and_anybody_may_see(keeper):
    attempt = keeper.executor.run(keeper.backlog.take())
    _refuse(attempt.transition, DataError("no \0 here: password=tea\nDETAIL: Failing row contains (tea)."))
    keeper.inbox.put(attempt)
    keeper._collect(0)
    keeper._record()
    job = Job.objects.get(state="FAILED")
    assert job.error == "DataError: the database refused the record: no ? here: password=********"
    assert [run.error for run in job.runs.all()] == [job.error]


@pytest.mark.django_db(transaction=True)
def test_a_refusal_of_any_length_is_cut_to_what_an_error_may_have(keeper):
    transition = keeper.executor.run(keeper.backlog.take()).transition
    _refuse(transition, DataError("x" * 50_000))
    assert len(transition.error) < 1_100


@pytest.mark.django_db(transaction=True)
def test_a_call_whose_success_is_not_to_be_kept_stays_when_the_database_refuses_it(keeper):
    give_back(keeper)
    Job.objects.all().delete()
    schedule("builtins.len", ["tea"], meta={"save": False, "atomic": False})
    keeper._claim()
    attempt = keeper.executor.run(keeper.backlog.take())
    _refuse(attempt.transition, DataError("no such value"))
    keeper.inbox.put(attempt)
    keeper._collect(0)
    keeper._record()
    assert Job.objects.get().state == "FAILED"


class Falling(Keeper):
    """One that an error ends which tells a secret."""

    def _loop(self):
        raise ValueError("no login with password=hunter2")


@pytest.mark.django_db(transaction=True)
def test_what_stops_a_worker_is_logged_without_the_secret_that_it_tells(caplog):
    executor = Executor("default", "host:1:abc")
    keeper = Falling(WorkerSettings(using="default"), executor, Backlog(), [Slot()], lambda: None)
    keeper.start()
    keeper.join()
    assert keeper.code == 1
    assert "Worker stops: no login with password=********" in caplog.text
    assert "hunter2" not in caplog.text
