"""Workers as processes of their own, on either of two databases."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connections

from django_dbq import Job, TaskRun
from tests.conftest import wait_until
from tests.models import Row

# No worker wakes up by itself in the time of a test: what happens is caused.
ASLEEP = {"POLL_INTERVAL_SECONDS": 600, "LEASE_SECONDS": 600}


class Bench:
    """Starts workers on one database and looks at its jobs."""

    def __init__(self, manage, alias, folder):
        self._manage = manage
        self.alias = alias
        self.folder = folder

    def worker(self, *args, dbq=None, **env):
        named = ["--database", self.alias] if self.alias != "default" else []
        return self._manage("worker", *args, *named, TEST_DBQ=json.dumps(dbq or {}), **env)

    def create(self, name, workspace=None, **values):
        workspace = {"folder": str(self.folder), **(workspace or {})}
        return Job.objects.using(self.alias).create(name=name, workspace=workspace, **values)

    def jobs(self, **values):
        return Job.objects.using(self.alias).filter(**values)

    def state(self, job):
        return self.jobs(pk=job.pk).values_list("state", flat=True).get()

    def wait_for(self, job, state="COMPLETE"):
        wait_until(lambda: self.state(job) == state, f"{job} is {state}")

    def wait_until_begun(self, *jobs):
        """Wait until the tasks of these jobs hold; return the ids of their processes."""
        wait_until(lambda: all([*self.folder.glob(f"began-{job.pk}-*")] for job in jobs), "the tasks began")
        return {
            path.name.rpartition("-")[2] for job in jobs for path in self.folder.glob(f"began-{job.pk}-*")
        }

    def go_on(self):
        (self.folder / "go-on").touch()

    def runs(self, job, *fields):
        found = TaskRun.objects.using(self.alias).filter(job_id=job.pk).order_by("claim")
        return list(found.values_list(*fields, flat=len(fields) == 1))

    def witnesses(self):
        """Return what the witness tasks saw, in the order in which they ran: (host, pid, n)."""
        return [tuple(text.split()) for text in Row.objects.order_by("pk").values_list("text", flat=True)]

    def wait_until_idle(self, worker, job_name="nothing"):
        """Wait until this worker has found everything that is due, and sleeps."""
        self.wait_for(self.create(job_name))
        if connections[self.alias].vendor == "postgresql":
            wait_until(lambda: listening(self.alias), "the worker listens")
        assert worker.popen.poll() is None, worker.log()


def listening(alias):
    """Return how many sessions wait for a NOTIFY in the database."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN %'"
        )
        return cursor.fetchone()[0]


def children(process):
    """Return the ids of the workers that a supervisor has started, in order."""
    return [int(pid) for pid in re.findall(r"Worker started: pid=(\d+)", process.log())]


@pytest.fixture(
    params=[
        pytest.param("default", marks=pytest.mark.django_db(transaction=True)),
        pytest.param("jobs", marks=pytest.mark.django_db(transaction=True, databases=["default", "jobs"])),
    ]
)
def bench(request, manage, tmp_path, _django_db_helper):
    """A bench on each of two databases."""
    return Bench(manage, request.param, tmp_path)


@pytest.fixture
def one_bench(manage, tmp_path, transactional_db):
    """A bench on the default database."""
    return Bench(manage, "default", tmp_path)
