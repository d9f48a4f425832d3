"""A worker whose lease may have run out looks before it begins a task, and before it runs hooks."""

from __future__ import annotations

import pytest

from django_dbq.compat.django_q import async_chain
from django_dbq.models import Job
from django_dbq.store import get_store
from django_dbq.testing import run_jobs
from django_dbq.worker.executor import Executor
from tests.django_q import functions
from tests.models import Row
from tests.store.helpers import claimed, columns

pytestmark = pytest.mark.django_db

PAST = 0.0  # On the monotonic clock.


@pytest.fixture
def store():
    return get_store("default")


@pytest.fixture
def executor():
    return Executor("default", "one")


def taken(store, job):
    """Let another worker rescue a job."""
    store.expire(["one"])
    ready, spent = store.rescue(worker="two", lease_seconds=30, lost_attempts_max=3)
    assert ([one.id for one in ready], spent) == ([job.id], [])


@pytest.mark.parametrize("name", ["writes", "atomic_writes"])
def test_a_task_is_not_begun_once_its_job_was_taken(store, executor, name):
    job = claimed(store, name=name)
    taken(store, job)
    job.trusted_until = PAST
    before = columns(store, job)
    attempt = executor.run(job)
    assert attempt.recorded is False and not Row.objects.exists()
    assert columns(store, job) == before


@pytest.mark.parametrize("name", ["writes", "atomic_writes"])
def test_a_task_is_begun_when_nobody_has_taken_its_job(store, executor, name):
    job = claimed(store, name=name)
    job.trusted_until = PAST
    attempt = executor.run(job)
    assert attempt.recorded is not False and attempt.transition.state == "COMPLETE"
    assert Row.objects.count() == 1


def test_a_worker_that_trusts_its_lease_asks_nobody(store, executor):
    job = claimed(store, name="nothing")
    before = columns(store, job)
    assert executor.run(job).transition.state == "COMPLETE"
    assert columns(store, job) == before, "its lease was not even renewed"


def test_a_hook_of_a_lost_job_runs_on_the_worker_that_holds_it_alone(store, executor, settings):
    hook = "tests.workflows.write_row_of_failure"
    settings.JOBS = {"hooked": {"tasks": ["tests.workflows.nothing"], "failure_hook": hook}}
    job = claimed(store, name="hooked")
    taken(store, job)
    job.trusted_until = PAST
    assert executor.fail_lost(job).recorded is False and not Row.objects.exists()
    [job] = store.claim(["default"], worker="one", limit=1, lease_seconds=30)
    assert executor.fail_lost(job).transition.state == "FAILED" and Row.objects.count() == 1


# Chains, whose links are not atomic.


@pytest.fixture
def link(store):
    """The first of two links of a chain, held by worker one."""
    async_chain([(functions.write, (text,), {"save": False}) for text in "ab"])
    [job] = store.claim(["default"], worker="one", limit=1, lease_seconds=30)
    return job


def written():
    return [*Row.objects.order_by("pk").values_list("text", flat=True)]


def test_a_link_that_was_taken_from_its_worker_is_followed_by_nothing(store, executor, link):
    taken(store, link)
    attempt = executor.run(link)
    assert written() == ["a"], "it trusts its lease"
    assert store.record([attempt.transition], worker="one", lease_seconds=30) == {}
    assert [job.pk for job in Job.objects.all()] == [link.pk]
    run_jobs()
    assert written() == ["a", "a", "b"] and not Job.objects.exists()


def test_a_link_whose_worker_died_before_the_record_runs_again_and_is_followed_once(store, executor, link):
    executor.run(link)
    assert run_jobs() == 0, "nothing follows until it is recorded"
    taken(store, link)
    run_jobs()
    assert written() == ["a", "a", "b"] and not Job.objects.exists()
