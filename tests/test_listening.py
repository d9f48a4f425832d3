"""Connections that listen, of workers and of callers who wait: when one is lost; among many open files."""

from __future__ import annotations

import os
import resource
import threading

import pytest
from django.db import connection

from django_dbq import Job
from django_dbq.store import get_store
from django_dbq.worker.listener import Listener
from tests.conftest import wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

DESCRIPTOR_MAX = 1_023  # That select.select() takes.


def execute(sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [first for (first,) in cursor.fetchall()]


def listening():
    """Return the sessions that wait for a NOTIFY."""
    return execute(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN %' AND state = 'idle'"
    )


class Caller(threading.Thread):
    """Waits for the end of a job, in a thread with connections of its own."""

    def __init__(self, job):
        super().__init__()
        self.job = job
        self.answer = None
        self.start()
        wait_until(listening, "it listens")

    def run(self):
        try:
            self.answer = self.job.wait(timeout=60)
        except Exception as error:
            self.answer = error
        finally:
            connection.close()

    def told(self):
        self.join(60)
        return self.answer


def end(job):
    assert Job.objects.filter(pk=job.pk).update(state="COMPLETE") == 1


@pytest.fixture
def many_files():
    """Open so many files that all further ones have numbers that select.select() refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * DESCRIPTOR_MAX), hard))
    files = [os.open(os.devnull, os.O_RDONLY)]
    while files[-1] < DESCRIPTOR_MAX:
        files.append(os.open(os.devnull, os.O_RDONLY))
    yield
    for file in files:
        os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_caller_who_waits_goes_on_by_asking_when_the_connection_that_listens_is_lost():
    job = Job.objects.create(name="nothing")
    caller = Caller(job)
    assert execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [listening()]) == [True]
    wait_until(lambda: not listening(), "it has gone")
    end(job)
    assert caller.told() is True


def test_a_caller_who_waits_is_told_among_many_open_files(many_files):
    job = Job.objects.create(name="nothing")
    caller = Caller(job)
    end(job)
    get_store("default").tell_ended([job.pk])
    assert caller.told() is True


def test_a_worker_is_told_among_many_open_files(many_files):
    heard = threading.Event()
    listener = Listener("default", ["default"], heard.set)
    listener.start()
    wait_until(listening, "it listens")
    Job.objects.create(name="nothing")
    assert heard.wait(20)
    listener.stop()
