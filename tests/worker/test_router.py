"""Jobs in a database of their own, by a router: nobody names it."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from django_dbq import Job, TaskRun
from django_dbq.testing import run_jobs
from tests.conftest import wait_until
from tests.models import Row
from tests.worker.conftest import ASLEEP, Bench

ROUTERS = ["tests.routers.JobsRouter"]

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "jobs"])


@pytest.fixture(autouse=True)
def routed(settings):
    settings.DATABASE_ROUTERS = ROUTERS


def said(command, *args):
    out = StringIO()
    call_command(command, *args, stdout=out)
    return out.getvalue().strip()


def test_jobs_live_in_the_database_of_the_router():
    Job.objects.create(name="witness")
    Job.objects.bulk_create([Job(name="five")])
    assert Job.objects.using("jobs").count() == 2 and not Job.objects.using("default").exists()
    assert Job.get_queue_depths() == {"default": 2}
    with transaction.atomic(using="jobs"):
        assert Job.objects.get_ready_or_none("default").name == "witness"
    assert run_jobs() == 2
    assert TaskRun.objects.using("jobs").count() == 6 and Row.objects.using("default").count() == 1
    assert Job.objects.delete_old(hours=0) == 2


def test_the_commands_use_the_database_of_the_router():
    pk = said("create_job", "nothing")
    assert Job.objects.using("jobs").get().pk == type(Job().pk)(pk)
    assert said("queue_depth") == "event=queue_depths default=1"
    assert said("queue_depth", "--database=default") == "event=queue_depths default=0"
    run_jobs()
    assert said("delete_old_jobs", "--hours=0") == "Deleted old jobs: 1 (COMPLETE 1)"


@pytest.mark.parametrize("name", ["witness", "atomic_writes"])
def test_a_worker_serves_the_database_of_the_router(manage, tmp_path, name):
    quick = {"POLL_INTERVAL_SECONDS": 0.1}
    worker = manage("worker", TEST_ROUTERS=json.dumps(ROUTERS), TEST_DBQ=json.dumps(quick))
    bench = Bench(manage, "jobs", tmp_path)
    bench.wait_for(bench.create(name))
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()


@pytest.mark.postgresql
def test_a_worker_is_told_of_a_job_that_the_router_sent_elsewhere(manage, tmp_path):
    worker = manage("worker", TEST_ROUTERS=json.dumps(ROUTERS), TEST_DBQ=json.dumps(ASLEEP))
    bench = Bench(manage, "jobs", tmp_path)
    bench.wait_until_idle(worker)
    for _ in range(3):
        with transaction.atomic(using="jobs"):
            job = Job.objects.create(name="nothing")
        wait_until(lambda job=job: bench.state(job) == "COMPLETE", "the job is complete")
    assert connections["jobs"].settings_dict["NAME"] != connections["default"].settings_dict["NAME"]
