"""How a worker hears of a new job: by NOTIFY, and without it by looking."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP, listening


@pytest.mark.postgresql
def test_a_new_job_is_picked_up_without_waiting_for_the_poll(bench):
    worker = bench.worker(dbq=ASLEEP)
    bench.wait_until_idle(worker)
    for _ in range(5):
        bench.wait_for(bench.create("nothing"))


@pytest.mark.postgresql
def test_a_job_of_a_transaction_is_announced_when_it_commits(bench):
    worker = bench.worker("other", "default", dbq=ASLEEP)
    bench.wait_until_idle(worker)
    with transaction.atomic(using=bench.alias):
        jobs = [bench.create("nothing", queue_name=name) for name in ("default", "other", "default")]
    for job in jobs:
        bench.wait_for(job)
    [job] = bench.jobs().bulk_create([type(job)(name="nothing")])
    bench.wait_for(job)


@pytest.mark.postgresql
def test_a_job_that_a_caller_makes_ready_again_is_announced(one_bench):
    worker = one_bench.worker(dbq=ASLEEP)
    one_bench.wait_until_idle(worker)
    job = one_bench.create("nothing", state="FAILED")
    job.state = "READY"
    job.save()
    one_bench.wait_for(job)


@pytest.mark.postgresql
def test_a_listener_that_was_cut_off_listens_again(one_bench):
    worker = one_bench.worker(dbq=ASLEEP)
    one_bench.wait_until_idle(worker)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'")
    wait_until(lambda: "Listening interrupted" in worker.log(), "it is seen")
    wait_until(lambda: listening("default"), "it listens again")
    one_bench.wait_for(one_bench.create("nothing"))


def test_polling_alone_finds_new_jobs(bench):
    worker = bench.worker(dbq={"POLL_INTERVAL_SECONDS": 0.1})
    bench.wait_until_idle(worker)
    for _ in range(3):
        job = bench.create("nothing", state="FAILED")
        bench.jobs(pk=job.pk).update(state="NEW")  # Nobody is told of this.
        bench.wait_for(job)
