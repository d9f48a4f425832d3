"""Schedules fired by real workers."""

from __future__ import annotations

import datetime
import os
import signal

import pytest

from django_dbq.models import Job, Schedule
from django_dbq.store import get_store
from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP, children

OFTEN = {"POLL_INTERVAL_SECONDS": 0.05}
DECLARING = {"DJANGO_SETTINGS_MODULE": "tests.worker.scheduled_settings"}


def ago(bench, seconds):
    return get_store(bench.alias).clock() - datetime.timedelta(seconds=seconds)


def a_schedule(bench, **fields):
    schedule = Schedule(**{"path": "nothing", "kind": "once", **fields})
    schedule.save(using=bench.alias)
    return schedule


def rows(bench):
    return Schedule.objects.using(bench.alias)


def complete(bench, count):
    wait_until(lambda: bench.jobs(state="COMPLETE").count() == count, f"{count} jobs are complete")


def declared(bench):
    return wait_until(lambda: rows(bench).filter(declared="nothing").first(), "the row is there")


def test_a_worker_fires_what_is_due_and_runs_it(bench):
    schedule = a_schedule(bench, kind="hourly", next_run=ago(bench, 3 * 3600 + 5))
    worker = bench.worker(dbq=ASLEEP)  # So that one look is enough.
    complete(bench, 4)
    assert schedule.runs.using(bench.alias).filter(job__state="COMPLETE").count() == 4
    assert worker.popen.poll() is None


def test_a_worker_that_works_off_what_is_due_fires_first(bench):
    a_schedule(bench)
    assert bench.worker("--burst").wait() == 0
    complete(bench, 1)


def test_a_worker_at_work_sees_a_schedule_that_comes(one_bench):
    worker = one_bench.worker(dbq=OFTEN)
    one_bench.wait_until_idle(worker)
    a_schedule(one_bench, next_run=ago(one_bench, 0))
    complete(one_bench, 2)


def test_many_workers_fire_each_slot_once_though_some_are_killed(one_bench):
    schedules = [
        a_schedule(one_bench, kind="minutes", minutes=1, next_run=ago(one_bench, 5)) for _ in range(5)
    ]
    supervisor = one_bench.worker("--processes", "3", dbq={**OFTEN, "LEASE_SECONDS": 2})
    complete(one_bench, 5)
    for n in range(1, 5):
        os.kill(children(supervisor)[-1], signal.SIGKILL)
        known = len(children(supervisor))
        # A slot that was not fired yet, and after it some that were.
        rows(one_bench).update(next_run=ago(one_bench, 60 * n + 30))
        wait_until(lambda: len(children(supervisor)) > known, "another worker was started")  # noqa: B023
        wait_until(lambda: not rows(one_bench).filter(next_run__lte=ago(one_bench, 0)).exists(), "all fired")
    for schedule in schedules:
        runs = schedule.runs.count()
        assert runs >= 5 and schedule.runs.values("slot").distinct().count() == runs
    assert Job.objects.count() == sum(schedule.runs.count() for schedule in schedules)


def test_a_worker_with_slow_hooks_to_run_keeps_its_connection_and_its_leases(one_bench):
    job = one_bench.create("hold")
    worker = one_bench.worker(dbq={**OFTEN, "LEASE_SECONDS": 2})
    one_bench.wait_until_begun(job)
    # Two leases and more, all in all.
    a_schedule(
        one_bench, path="slow_to_create", kind="minutes", minutes=1, next_run=ago(one_bench, 50 * 60 - 5)
    )

    def all_fired():
        assert Job.objects.get(pk=job.pk).lease_until > ago(one_bench, 0), worker.log()
        return not rows(one_bench).filter(next_run__lte=ago(one_bench, 0)).exists()

    wait_until(all_fired, "all is caught up")
    assert one_bench.jobs(name="slow_to_create").count() >= 50
    assert "Database error" not in worker.log()


def test_a_schedule_that_cannot_be_fired_is_logged_and_the_others_go_on(one_bench):
    broken = a_schedule(one_bench, name="broken")
    rows(one_bench).filter(pk=broken.pk).update(path="gone", failures=4)
    a_schedule(one_bench)
    worker = one_bench.worker(dbq=OFTEN)
    complete(one_bench, 1)
    line = f"ERROR Schedule disabled: schedule={broken.pk} name=broken disabled after 5 failures: UnknownJob"
    wait_until(lambda: line in worker.log(), "the error is logged")
    assert worker.log().count("Schedule disabled") == 1


def test_a_failure_before_the_last_is_a_warning(one_bench):
    broken = a_schedule(one_bench, name="broken")
    rows(one_bench).filter(pk=broken.pk).update(path="gone")
    worker = one_bench.worker(dbq=OFTEN)
    wait_until(
        lambda: f"WARNING Schedule failed: schedule={broken.pk} name=broken Unkn" in worker.log(), "line"
    )


@pytest.mark.parametrize("processes", ["1", "3"])
def test_a_worker_makes_the_row_that_an_entry_declares(one_bench, processes):
    one_bench.worker("--processes", processes, TEST_CRON="0 6 * * *", **DECLARING)
    row = declared(one_bench)
    assert (row.path, row.cron, row.enabled) == ("nothing", "0 6 * * *", True)
    assert row.next_run > ago(one_bench, 0)
    assert rows(one_bench).count() == 1


def test_it_follows_the_entry_from_start_to_start(one_bench):
    def start(**env):
        assert one_bench.worker("--burst", **DECLARING, **env).wait() == 0
        return declared(one_bench)

    first = start(TEST_CRON="0 6 * * *")
    assert start(TEST_CRON="0 7 * * *").cron == "0 7 * * *"
    assert not start().enabled
    back = start(TEST_CRON="0 7 * * *")
    assert (back.pk, back.enabled) == (first.pk, True)


def test_a_row_that_cannot_be_declared_is_logged_and_the_worker_goes_on(one_bench):
    assert one_bench.worker("--burst", TEST_CRON="0 6 * * *", **DECLARING).wait() == 0
    assert one_bench.worker("--burst", **DECLARING).wait() == 0
    row = declared(one_bench)
    row.repeats = 0
    row.save()
    job = one_bench.create("five")
    worker = one_bench.worker("--burst", TEST_CRON="0 6 * * *", **DECLARING)
    assert worker.wait() == 0, worker.log()
    assert "ERROR Schedule not declared: name=nothing ScheduleError: it has run as often" in worker.log()
    assert one_bench.state(job) == "COMPLETE"


@pytest.mark.django_db(transaction=True, databases=["default", "jobs"])
def test_a_worker_of_a_database_that_the_router_does_not_name_declares_nothing(manage, tmp_path):
    worker = manage(
        "worker", "--burst", "--database", "jobs", alias="jobs", TEST_CRON="0 6 * * *", **DECLARING
    )
    assert worker.wait() == 0
    assert not Schedule.objects.using("jobs").exists()
