"""manage.py qcluster: the supervisor, as Q_CLUSTER describes it."""

from __future__ import annotations

import json
import os
import signal

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_dbq import Job, WorkerProcess
from django_dbq.management.commands import qcluster
from tests.conftest import wait_until
from tests.worker.conftest import children

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(manage):
    def start(*args, q_cluster=None, **env):
        return manage("qcluster", *args, TEST_Q_CLUSTER=json.dumps(q_cluster or {}), **env)

    return start


def states():
    return dict(Job.objects.values_list("queue_name", "state"))


def create(*queues):
    for queue in queues:
        Job.objects.create(name="nothing", queue_name=queue)


def test_there_is_one_process_for_each_cpu_and_a_signal_ends_them(run):
    cluster = run()
    wait_until(lambda: WorkerProcess.objects.count() == qcluster.cpus(), "every process is there")
    assert {*WorkerProcess.objects.values_list("pid", flat=True)} == {*children(cluster)}
    assert 'Starting cluster "default" with' in cluster.log()
    os.kill(cluster.pid, signal.SIGTERM)
    assert cluster.wait() == 0
    assert not WorkerProcess.objects.exists()


def test_it_uses_only_the_cpus_that_it_may():
    assert 1 <= qcluster.cpus() <= (os.cpu_count() or 1)


def test_run_once_runs_what_is_due_and_exits(run):
    create("default", "default", "other")
    cluster = run("--run-once", q_cluster={"workers": 1, "recycle": 1})
    assert cluster.wait() == 0
    assert 'Starting cluster "default" with 1 process\n' in cluster.log()
    assert sorted(Job.objects.values_list("queue_name", "state")) == [
        ("default", "COMPLETE"),
        ("default", "COMPLETE"),
        ("other", "NEW"),
    ]


@pytest.mark.parametrize(
    ("args", "env", "served"),
    [
        ((), {}, "site"),
        (("--name", "long"), {}, "long"),
        (("-n", "unheard-of"), {}, "unheard-of"),
        ((), {"Q_CLUSTER_NAME": "long"}, "long"),
        (("--name", "site"), {"Q_CLUSTER_NAME": "long"}, "site"),
    ],
)
def test_it_serves_the_queue_of_its_name(run, args, env, served):
    create("default", "site", "long", "unheard-of")
    settings = {"name": "site", "workers": 1, "ALT_CLUSTERS": {"long": {}}}
    assert run("--run-once", *args, q_cluster=settings, **env).wait() == 0
    assert [queue for queue, state in states().items() if state == "COMPLETE"] == [served]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, 6),
        ({"save_limit": 0}, 6),
        ({"save_limit": 2}, 2),
        ({"save_limit": 1, "save_limit_per": "group"}, 2),
        ({"save_limit": 1, "save_limit_per": "func"}, 1),
        ({"save_limit": 1, "save_limit_per": "name"}, 4),
    ],
)
def test_its_workers_keep_so_many_successes_of_its_queue(run, limits, kept):
    for title, label in (("a", "x"), ("a", "x"), ("a", "y"), (None, "x"), (None, "y"), (None, "y")):
        Job.objects.create(name="nothing", title=title, label=label)
    other = Job.objects.create(name="nothing", queue_name="other", label="x")
    Job.objects.update(state="COMPLETE", finished=timezone.now())
    assert run("--run-once", q_cluster={"workers": 1, **limits}).wait() == 0
    assert Job.objects.filter(queue_name="default").count() == kept
    assert Job.objects.filter(pk=other.pk).exists()


def test_an_alternative_cluster_has_its_own_number_of_processes(run):
    settings = {"workers": 1, "ALT_CLUSTERS": {"long": {"workers": 3}}}
    run("--name", "long", q_cluster=settings)
    wait_until(lambda: WorkerProcess.objects.count() == 3, "three processes")


def test_a_process_is_replaced_after_the_jobs_of_recycle(run):
    cluster = run(q_cluster={"workers": 1, "recycle": 2})
    for _ in range(6):
        create("default")
    wait_until(lambda: Job.objects.filter(state="COMPLETE").count() == 6, "all are done")
    wait_until(lambda: len(children(cluster)) >= 3, "two were replaced")


def test_a_process_is_replaced_when_it_is_larger_than_max_rss(run):
    cluster = run(q_cluster={"workers": 1, "max_rss": 1_000})  # Kilobytes: any Python is larger.
    create("default")
    wait_until(lambda: len(children(cluster)) >= 2, "it was replaced")
    assert states() == {"default": "COMPLETE"}


def test_a_process_smaller_than_max_rss_stays(run):
    """It is in kilobytes: a gigabyte here, which as bytes any Python would be larger than."""
    cluster = run(q_cluster={"workers": 1, "max_rss": 1_000_000}, TEST_DBQ='{"POLL_INTERVAL_SECONDS": 0.02}')
    for _ in range(3):  # Each is made claimable by upkeep alone, which looks at the size first.
        job = Job.objects.create(name="nothing")
        Job.objects.filter(pk=job.pk).update(staged=False, run_after=job.created)
        wait_until(lambda: states() == {"default": "COMPLETE"}, "the job is done")
    assert len(children(cluster)) == 1


def test_it_tells_what_of_its_settings_has_no_meaning(run):
    cluster = run("--run-once", q_cluster={"workers": 1, "redis": {}})
    assert cluster.wait() == 0
    assert "dbq.W101 Q_CLUSTER['redis'] has no meaning here" in cluster.log()


def test_settings_that_cannot_be_used_are_refused(settings):
    settings.Q_CLUSTER = {"workers": "many"}
    wanted = r"The cluster does not start; settings are at fault:\nQ_CLUSTER\['workers'\]: must be a whole"
    with pytest.raises(CommandError, match=wanted):
        call_command("qcluster")
