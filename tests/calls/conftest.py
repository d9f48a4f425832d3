"""What the tests of calls share."""

import signal
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from django_dbq import Job
from django_dbq.testing import run_jobs
from tests.calls import functions


@pytest.fixture(autouse=True)
def _nothing_left_for_later():
    functions.LATER.clear()


@pytest.fixture
def drain():
    """Run what is due in every queue: in the test's transaction, or where there is none by a worker."""

    def drain(job=None):
        if connection.in_atomic_block:
            run_jobs()
        elif names := [*Job.get_queue_depths()]:
            _work(names)
        if job is not None:
            job.refresh_from_db()
        return job

    return drain


def _work(names):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        call_command("worker", *names, burst=True, stdout=StringIO())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# For a test that runs twice: inside the transaction of a TestCase, and by a worker, that has none.
BOTH = [
    pytest.param("run_jobs", marks=pytest.mark.django_db),
    pytest.param("worker", marks=pytest.mark.django_db(transaction=True)),
]
