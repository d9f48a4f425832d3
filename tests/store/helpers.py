"""Words that the store tests share."""

import datetime
import threading
import time
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connections, transaction

from django_dbq.engine.lifecycle import Run, State, Transition
from django_dbq.models import Job, TaskRun

LEASE = 30
NOW = datetime.datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=datetime.UTC)

ALIASES = [alias for alias in ("default", "sqlite", "mariadb") if alias in settings.DATABASES]

# Stores whose database has locks on rows and a clock of its own.
SERVERS = [
    pytest.param(alias, marks=pytest.mark.postgresql if alias == "default" else ())
    for alias in ALIASES
    if alias != "sqlite"
]


def seconds(number):
    return datetime.timedelta(seconds=number)


def make_jobs(store, count=1, **columns):
    """Create jobs, and set columns of theirs that no caller can."""
    own = {key: columns.pop(key) for key in ("name", "queue_name", "priority", "workspace") if key in columns}
    made = [Job(**{"name": "five", **own}) for _ in range(count)]
    Job.objects.using(store.using).bulk_create(made)
    if columns:
        Job.objects.using(store.using).filter(pk__in=[job.pk for job in made]).update(**columns)
    return [reread(store, job) for job in made]


def make_job(store, **columns):
    return make_jobs(store, 1, **columns)[0]


def reread(store, job):
    return Job.objects.using(store.using).get(pk=job.pk)


def columns(store, job):
    """Every column of a job's row."""
    return Job.objects.using(store.using).values().get(pk=job.pk)


def runs(store, job):
    return list(TaskRun.objects.using(store.using).filter(job_id=job.pk).order_by("claim"))


def claim(store, *queue_names, worker="one", limit=100, lease_seconds=LEASE, now=None):
    names = queue_names or ("default",)
    return store.claim(names, worker=worker, limit=limit, lease_seconds=lease_seconds, now=now)


def claimed(store, worker="one", now=None, **columns):
    """Create a job that `worker` holds."""
    make_job(store, queue_name="only", **columns)
    (job,) = claim(store, "only", worker=worker, now=now)
    Job.objects.using(store.using).filter(pk=job.pk).update(queue_name="default")
    return job


def transition(job, state=State.READY, **values):
    """Return a transition of a held job; by default to READY at its second task."""
    columns = {"next_task": "tests.workflows.count", "position": 1, "attempt": 0, "lost_attempts": 0}
    return Transition(job.id, job.claim, State(state), **{**columns, "outcome": "done", **values})


def a_run(job, **values):
    columns = {"outcome": "done", "began": time.monotonic(), "seconds": 0.0}
    return Run(job.next_task, job.position, job.attempt, **{**columns, **values})


beside = []  # What else is recorded at the same time.


def record(store, *transitions, worker="one", lease_seconds=LEASE, now=None):
    return store.record([*transitions, *beside], worker=worker, lease_seconds=lease_seconds, now=now)


def clock(store):
    """The database's own time."""
    connection = connections[store.using]
    if connection.vendor == "sqlite":
        return datetime.datetime.now(datetime.UTC)
    statement = {"postgresql": "SELECT clock_timestamp()", "mysql": "SELECT UTC_TIMESTAMP(6)"}
    with connection.cursor() as cursor:
        cursor.execute(statement[connection.vendor])
        return cursor.fetchone()[0].replace(tzinfo=datetime.UTC)


@contextmanager
def blank_table():
    """Empty the job table of the default database, before and after, and keep autovacuum from it meanwhile.

    That sees pages without rows while a mass insert has not committed, and leaves the planner in the belief
    that the table is empty.
    """
    with connections["default"].cursor() as cursor:
        cursor.execute("TRUNCATE django_dbq_job, django_dbq_taskrun")
        cursor.execute("ALTER TABLE django_dbq_job SET (autovacuum_enabled = off)")
    try:
        yield
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("TRUNCATE django_dbq_job, django_dbq_taskrun")
            cursor.execute("ALTER TABLE django_dbq_job RESET (autovacuum_enabled)")


@contextmanager
def locked(store, *jobs):
    """Hold the rows of these jobs locked on a connection of another thread."""
    held, leave, errors = threading.Event(), threading.Event(), []

    def hold():
        try:
            with transaction.atomic(using=store.using):
                rows = Job.objects.using(store.using).select_for_update()
                assert len(rows.filter(pk__in=[job.pk for job in jobs])) == len(jobs)
                held.set()
                leave.wait(20)
        except Exception as error:
            errors.append(error)
        finally:
            held.set()
            connections[store.using].close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(20)
        yield
    finally:
        leave.set()
        thread.join(20)
    assert not errors, errors


def together(count, function):
    """Call `function(number)` in `count` threads at once; return what each returned."""
    start, answers, errors = threading.Barrier(count), [None] * count, []

    def call(number):
        try:
            start.wait(20)
            answers[number] = function(number)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    return answers
