"""A workspace that is JSON to the database and nothing to Python, left in a row by somebody's SQL."""

from __future__ import annotations

import pytest
from django.db.models import JSONField, TextField, Value
from django.db.models.functions import Cast
from django.urls import reverse

from django_dbq import Job
from django_dbq.store import get_store
from django_dbq.testing import run_jobs

LONG_NUMBER = '{"n": 1' + 5_000 * "0" + "}"


def spoil(jobs, column="workspace"):
    """Write what Python cannot read to these rows."""
    jobs.update(**{column: Cast(Value(LONG_NUMBER, TextField()), JSONField())})


def test_such_a_job_fails_alone_and_its_worker_goes_on(one_bench):
    first, spoilt, later = (one_bench.create("nothing") for _ in range(3))
    spoil(one_bench.jobs(pk=spoilt.pk))
    one_bench.worker()
    one_bench.wait_for(spoilt, "FAILED")
    one_bench.wait_for(first)
    one_bench.wait_for(later)
    one_bench.wait_for(one_bench.create("nothing"))
    [(outcome, error)] = one_bench.runs(spoilt, "outcome", "error")
    assert outcome == "failed" and "workspace cannot be read" in error


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.django_db(transaction=True)
def test_no_attempt_is_made_again_and_the_failure_hook_is_called(settings, atomic):
    task = {"task": "tests.workflows.nothing", "atomic": atomic, "retry": {"max_attempts": 5}}
    settings.JOBS = {"spoilt": {"tasks": [task], "failure_hook": f"{__name__}.note_failure"}}
    told.clear()
    job = Job.objects.create(name="spoilt")
    spoil(Job.objects.all())
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("FAILED", 1)
    assert told == [job.pk]


told = []


def note_failure(job, error):
    told.append(job.pk)


@pytest.mark.django_db(transaction=True)
def test_its_row_stays_as_it_was_until_somebody_mends_it(settings):
    settings.JOBS = {"spoilt": ["tests.workflows.nothing"]}
    job = Job.objects.create(name="spoilt")
    spoil(Job.objects.all())
    run_jobs()
    job = Job.objects.get()
    assert "cannot be read" in str(job.workspace) and job.workspace.text.startswith('{"n": 1000')
    job.priority = 3
    job.save()
    assert Job.objects.get().workspace == job.workspace
    job.workspace = {"n": 1}
    job.save()
    assert job.retry()
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.workspace) == ("COMPLETE", {"n": 1})


@pytest.mark.django_db(transaction=True)
def test_an_unreadable_result_fails_the_job_too(settings):
    settings.JOBS = {"spoilt": ["tests.workflows.nothing"]}
    job = Job.objects.create(name="spoilt")
    spoil(Job.objects.all(), column="result")
    run_jobs()
    job.refresh_from_db()
    assert job.state == "FAILED" and "result" in job.error


@pytest.mark.django_db(transaction=True)
def test_it_is_rescued_from_a_lost_worker_with_the_others(settings):
    settings.JOBS = {"spoilt": ["tests.workflows.nothing"]}
    store = get_store("default")
    jobs = [Job.objects.create(name="spoilt") for _ in range(2)]
    assert len(store.claim(["default"], worker="lost", limit=2, lease_seconds=0)) == 2
    spoil(Job.objects.filter(pk=jobs[0].pk))
    ready, spent = store.rescue(worker="w", lease_seconds=60, lost_attempts_max=9)
    assert (len(ready), spent) == (2, [])
    assert [*Job.objects.values_list("state", flat=True)] == ["READY", "READY"]


@pytest.mark.django_db
def test_the_admin_shows_what_is_in_the_row(admin_client):
    job = Job.objects.create(name="nothing")
    spoil(Job.objects.all())
    page = admin_client.get(reverse("admin:django_dbq_job_change", args=[job.pk])).content.decode()
    assert "cannot be read" in page and "100000000" in page
