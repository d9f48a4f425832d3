"""How many jobs there are, and since when the oldest has been due."""

import datetime

import pytest
from django.db import connection

from django_dbq.engine.lifecycle import State
from django_dbq.models import Job
from django_dbq.store import get_store, postgres
from tests.store.helpers import ALIASES, claimed, clock, make_job, make_jobs, seconds

pytestmark = pytest.mark.django_db(databases=ALIASES)


def test_jobs_are_counted_by_state_and_name(store):
    make_jobs(store, 3)
    make_jobs(store, 2, name="nothing")
    make_jobs(store, 4, state="WAITING")
    make_jobs(store, 2, state="COMPLETE", finished=clock(store))
    make_job(store, state="STOPPING")  # As a worker of the original package leaves it.
    claimed(store)
    counts = store.count()
    assert counts.numbers == {
        ("NEW", "five"): 3,
        ("NEW", "nothing"): 2,
        ("WAITING", "five"): 4,
        ("COMPLETE", "five"): 2,
        ("STOPPING", "five"): 1,
        ("PROCESSING", "five"): 1,
    }


def test_jobs_whose_last_attempt_failed_are_counted(store):
    make_jobs(store, 2, state="FAILED", finished=clock(store), error="ValueError: no")
    make_job(store, state="FAILED", finished=clock(store))  # The original package kept no error.
    make_jobs(store, 4, state="READY", error="ValueError: no")
    make_jobs(store, 8, state="READY")
    assert store.count().failing == 7


def test_few_jobs_are_not_estimated(store):
    make_jobs(store, 50)
    assert store.count().estimated == set()


def test_no_jobs_are_no_numbers(store):
    assert store.count().numbers == {}
    assert store.oldest_due() is None


def test_the_oldest_due_is_found_behind_any_queue_and_priority(store):
    now = clock(store)
    for minutes, values in enumerate(
        (
            {"queue_name": "a", "priority": 5},
            {"queue_name": "a", "priority": -5},
            {"queue_name": "b", "priority": 0},
            {"queue_name": "c", "priority": 9, "state": "READY"},
            {"queue_name": "c", "priority": 7},
        )
    ):
        since = now - seconds(60 * (minutes + 1))
        make_job(store, created=since, **values)
        make_job(store, created=since + seconds(10), **values)
        assert store.oldest_due() == since


def test_a_job_is_due_from_its_time_on(store):
    now = clock(store)
    make_job(store, created=now - seconds(9000), run_after=now - seconds(60))
    assert store.oldest_due() == now - seconds(60)


def test_a_job_whose_time_has_come_is_due_though_no_worker_has_staged_it(store):
    now = clock(store)
    make_job(store, run_after=now - seconds(60), staged=False)
    make_job(store, run_after=now - seconds(90), staged=False, state="CANCELLED", finished=now)
    assert store.oldest_due() == now - seconds(60)


@pytest.mark.parametrize("staged", [True, False])
def test_a_job_whose_time_is_ahead_is_not_due(store, staged):
    make_job(store, run_after=clock(store) + seconds(600), staged=staged)
    assert store.oldest_due() is None


@pytest.mark.parametrize("state", sorted(set(State) - {"NEW", "READY"}))
def test_a_job_that_does_not_wait_for_a_worker_is_not_due(store, state):
    make_job(store, state=state, created=clock(store) - datetime.timedelta(days=9))
    assert store.oldest_due() is None


# A big table, on PostgreSQL: scaled down, so that thousands of jobs are many.

JOBS, FEW = 6_000, 40


def execute(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def fill(count, state, ended=True, error=None):
    execute(
        "INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, queue_name, priority,"
        " finished, error) SELECT gen_random_uuid(), now(), now(),"
        " CASE n %% 3 WHEN 0 THEN 'one' ELSE 'two' END, %s, '', 'default', 0,"
        " CASE WHEN %s THEN now() END, %s FROM generate_series(1, %s) AS n",
        *(state, ended, error, count),
    )


@pytest.fixture
def big(db, monkeypatch):
    """A store that may read 40 pages whole and 500 jobs by index; its table has many more."""
    monkeypatch.setattr(postgres, "COUNT_PAGES", 40)
    monkeypatch.setattr(postgres, "COUNT_MAX", 500)
    execute("TRUNCATE django_dbq_job")
    return get_store("default")


def about(number):
    return pytest.approx(number, rel=0.5)  # A sample of 40 pages.


@pytest.mark.postgresql
def test_what_is_many_is_estimated_and_said_to_be(big):
    fill(JOBS, "COMPLETE")
    fill(FEW, "FAILED")
    make_jobs(big, FEW)
    counts = big.count()
    assert counts.estimated == {"COMPLETE"}
    assert counts.numbers == {
        ("COMPLETE", "one"): about(JOBS / 3),
        ("COMPLETE", "two"): about(JOBS * 2 / 3),
        ("FAILED", "one"): 13,
        ("FAILED", "two"): 27,
        ("NEW", "five"): FEW,
    }


@pytest.mark.postgresql
@pytest.mark.parametrize("state", ["NEW", "WAITING", "FAILED", "CANCELLED"])
def test_a_state_that_holds_many_jobs_is_estimated_whichever_it_is(big, state):
    fill(JOBS, state, ended=state in ("FAILED", "CANCELLED"), error="ValueError: no")
    counts = big.count()
    assert state in counts.estimated
    assert sum(counts.numbers.values()) == about(JOBS)
    assert counts.failing == about(JOBS)


@pytest.mark.postgresql
def test_many_jobs_that_workers_hold_are_estimated(big):
    fill(JOBS, "READY", ended=False)
    execute("UPDATE django_dbq_job SET state = 'PROCESSING', claimed_by = 'one', lease_until = now()")
    counts = big.count()
    assert counts.estimated == {"PROCESSING", "STOPPING"}
    assert sum(counts.numbers.values()) == about(JOBS)


@pytest.mark.postgresql
def test_the_planner_makes_an_estimate_exact_while_it_agrees(big):
    fill(JOBS, "COMPLETE")
    execute("ANALYZE django_dbq_job")
    counts = big.count()
    assert counts.estimated == {"COMPLETE"}
    assert sum(counts.numbers.values()) == pytest.approx(JOBS, rel=0.01)


@pytest.mark.postgresql
def test_outdated_statistics_are_not_believed(big):
    fill(JOBS, "COMPLETE")
    execute("ANALYZE django_dbq_job")
    execute("DELETE FROM django_dbq_job WHERE ctid < '(70,0)'")
    left = Job.objects.count()
    assert 700 < left < JOBS - 1_500  # The pages are what they were.
    assert sum(big.count().numbers.values()) == about(left)


@pytest.mark.postgresql
def test_jobs_that_the_original_package_has_finished_are_estimated(big):
    fill(JOBS, "COMPLETE", ended=False)
    counts = big.count()
    assert counts.estimated == {"COMPLETE"}
    assert sum(counts.numbers.values()) == about(JOBS)


@pytest.mark.postgresql
def test_they_are_estimated_beside_what_an_index_has(big):
    for _ in range(20):
        fill(JOBS // 20, "CANCELLED")
        fill(15, "COMPLETE", ended=False)
    fill(FEW, "COMPLETE")
    counts = big.count()
    assert counts.estimated == {"CANCELLED", "COMPLETE"}
    complete = sum(number for (state, _), number in counts.numbers.items() if state == "COMPLETE")
    assert complete - FEW == about(20 * 15)


@pytest.mark.postgresql
def test_few_jobs_among_many_empty_pages_are_counted_by_index(big):
    fill(JOBS, "COMPLETE")
    execute("DELETE FROM django_dbq_job")
    fill(FEW, "COMPLETE")
    counts = big.count()
    assert counts.estimated == set()
    assert sum(counts.numbers.values()) == FEW


@pytest.mark.postgresql
def test_a_poor_sample_is_not_taken_for_less_than_was_found(big, monkeypatch):
    monkeypatch.setattr(postgres, "COUNT_PAGES", 1)
    fill(JOBS, "COMPLETE")
    execute("DELETE FROM django_dbq_job")
    fill(600, "COMPLETE")
    counts = big.count()
    assert counts.estimated == {"COMPLETE"}
    assert sum(counts.numbers.values()) >= 500
