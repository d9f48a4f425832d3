"""One PostgreSQL for the chaos tests of a run, and a database of its own for each of them."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.chaos import workflows
from tests.chaos.cluster import Cluster
from tests.chaos.harness import Chaos
from tests.conftest import ROOT


def pytest_itemcollected(item):
    # They bring a server of their own: once is enough, whatever other database a run is for.
    item.add_marker(pytest.mark.postgresql)
    if item.get_closest_marker("chaos") is None:
        item.add_marker(pytest.mark.chaos("quick"))


@pytest.fixture(scope="session")
def cluster(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        cluster = Cluster()
        try:
            cluster.make_template()
            yield cluster
        finally:
            cluster.remove()


@pytest.fixture
def chaos(cluster, django_db_blocker, settings, tmp_path, request):
    settings.JOBS = workflows.JOBS
    with django_db_blocker.unblock():
        name = cluster.new_database()
        chaos = Chaos(cluster, name, tmp_path)
        try:
            yield chaos
        finally:
            if request.node.stash.get(FAILED, False):
                print(replay_line(request))
                print(chaos.story())
            chaos.end()
            cluster.drop(name)


FAILED = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def replay_line(request):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    seed = os.environ.get("SEED", "1")
    where = request.node.nodeid
    return f"replay at {commit.stdout.strip()}: CHAOS=all SEED={seed} python -m pytest '{where}'"
