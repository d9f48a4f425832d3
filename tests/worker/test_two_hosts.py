"""Two hosts share one PostgreSQL over TCP."""

from __future__ import annotations

import collections

import pytest
from django.db import connections

from django_dbq import Job, TaskRun
from tests.conftest import wait_until
from tests.models import Row
from tests.worker.conftest import listening
from tests.worker.hosts import HERE, _alias, postgresql, two_hosts

JOBS = 2_000


@pytest.fixture
def shared(django_db_blocker):
    """The alias of a database, known to this process alone, with its port."""
    alias = "two_hosts"

    def connect(port):
        where = {
            "NAME": "postgres",
            "USER": "postgres",
            "PASSWORD": "",
            "HOST": HERE,
            "PORT": str(port),
            "OPTIONS": {},
        }
        connections.settings[alias] = {**connections.settings["default"], **where}
        return alias

    with django_db_blocker.unblock():
        yield connect
        connections[alias].close()
    del connections[alias]
    del connections.settings[alias]


def aliases():
    """Return two hosts that are this machine: what is left where namespaces cannot be made."""
    return [_alias("dbq-host-1"), _alias("dbq-host-2")]


@pytest.mark.postgresql
@pytest.mark.parametrize("networks", ["apart", "shared"])
def test_two_hosts_drain_two_thousand_jobs_and_each_runs_once(manage, shared, networks):
    with two_hosts() as hosts:
        hosts = hosts if networks == "apart" else aliases()
        with postgresql({host.address for host in hosts}) as port:
            alias = shared(port)
            url = f"postgresql://postgres@{{}}:{port}/postgres"
            assert manage("migrate", "--run-syncdb", DATABASE_URL=url.format(HERE)).wait() == 0
            workers = [
                manage("worker", prefix=host.prefix, DATABASE_URL=url.format(host.address)) for host in hosts
            ]
            wait_until(lambda: listening(alias) == 2, "both listen")
            Job.objects.using(alias).bulk_create(Job(name="witness", workspace={"n": n}) for n in range(JOBS))
            left = Job.objects.using(alias).filter(state__in=["NEW", "READY", "PROCESSING"])
            wait_until(lambda: not left.exists(), "all jobs are finished", seconds=60)
            for worker in workers:
                worker.popen.terminate()
                assert worker.wait() == 0, worker.log()
            seen = [text.split() for text in Row.objects.using(alias).values_list("text", flat=True)]
            runs = TaskRun.objects.using(alias).values_list("worker", "outcome", "attempt")
            hosts_of_runs = collections.Counter(worker.partition(":")[0] for worker, *_ in runs)
    assert sorted(int(n) for _, _, n in seen) == list(range(JOBS))
    assert {(outcome, attempt) for _, outcome, attempt in runs} == {("done", 1)} and len(runs) == JOBS
    assert collections.Counter(host for host, *_ in seen) == hosts_of_runs
    assert sorted(hosts_of_runs) == ["dbq-host-1", "dbq-host-2"]
