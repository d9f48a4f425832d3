"""Function calls as jobs: what may be called, how it is run, and what becomes of a changed row."""

from __future__ import annotations

import pytest

from django_dbq import schedule
from django_dbq.testing import run_jobs
from tests.models import Row

pytestmark = pytest.mark.django_db


def write(text, times=1):
    for _ in range(times):
        Row.objects.create(text=text)
    return {"wrote": times}


def test_a_call_is_run_and_its_result_kept():
    job = schedule(write, ["a"], {"times": 2})
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.result) == ("COMPLETE", {"wrote": 2})
    assert Row.objects.count() == 2


def test_execute_runs_here():
    job = schedule(write, ["a"], {"times": 2})
    assert job.execute() == {"wrote": 2}
    assert job.state == "COMPLETE"
