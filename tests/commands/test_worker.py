"""manage.py worker: what it says, and what it refuses. What it does is in tests/worker."""

from __future__ import annotations

import os
import signal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from django_dbq import Job
from tests.conftest import wait_until


def said(*args, **options):
    out = StringIO()
    call_command("worker", *args, stdout=out, **{"dry_run": True, **options})
    return out.getvalue().strip()


def test_it_names_its_queues():
    assert said() == 'Starting job worker for queue "default"'
    assert said("reports") == 'Starting job worker for queue "reports"'
    assert said("a", "b", "a") == 'Starting job worker for queues "a", "b"'


def test_a_queue_may_be_named_as_the_original_took_it():
    assert said(queue_name="reports") == 'Starting job worker for queue "reports"'
    assert said(queue_name=["a", "b"]) == 'Starting job worker for queues "a", "b"'


def test_a_name_with_a_comma_is_one_queue_and_it_says_so():
    err = StringIO()
    assert said("a, b", stderr=err) == 'Starting job worker for queue "a, b"'
    assert err.getvalue() == 'This serves one queue, "a, b". For several: worker a b\n'


@pytest.mark.parametrize(
    "args, seconds",
    [(["--rate_limit", "2"], "2"), (["--rate-limit=0.5"], "0.5"), (["--rate_limit"], "1")],
)
def test_it_tells_its_rate_limit(args, seconds):
    assert said("a", *args) == f'Starting job worker for queue "a" with at most one task in {seconds} s'
    assert said("a", rate_limit=3).endswith("at most one task in 3 s")


@pytest.mark.django_db
def test_a_dry_run_runs_nothing():
    job = Job.objects.create(name="nothing")
    said("--dry-run")
    job.refresh_from_db()
    assert job.state == "NEW"


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("JOBS", [], "JOBS: must be a dictionary of job names, not list"),
        ("JOBS", {"a": {"taks": []}}, r"JOBS\['a'\]: has no option 'taks'. Did you mean 'tasks'"),
        ("DBQ", {"LEASE_SECS": 1}, "DBQ: has no option 'LEASE_SECS'. Did you mean"),
    ],
)
def test_settings_that_cannot_be_used_keep_it_from_starting(settings, name, value, message):
    setattr(settings, name, value)
    with pytest.raises(CommandError, match=f"(?s)The worker does not start.*{message}"):
        said()


@pytest.mark.django_db(transaction=True)
def test_a_path_that_does_not_import_is_told_and_the_worker_starts(settings):
    settings.JOBS = {"a": ["tests.workflows.nowhere"]}
    told = StringIO()
    assert said(dry_run=False, burst=True, stderr=told) == 'Starting job worker for queue "default"'
    assert "dbq.E004 JOBS['a']['tasks'][0]: 'tests.workflows.nowhere' does not import" in told.getvalue()


BACKEND = "django_dbq.backend.JobBackend"


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("JOBS", {"a": ["tests.workflows.nowhere"]}, "dbq.E004 JOBS['a']['tasks'][0]: "),
        (
            "TASKS",
            {"default": {"BACKEND": BACKEND, "OPTIONS": {"timeout": 5}}},
            "dbq.E022 TASKS['default']['OPTIONS']",
        ),
        ("Q_CLUSTER", {"workers": "many"}, "dbq.E101 Q_CLUSTER['workers']: must be a whole number"),
    ],
)
def test_a_dry_run_says_what_check_would_say_and_fails_where_that_would(settings, name, value, message):
    setattr(settings, name, value)
    told = StringIO()
    with pytest.raises(CommandError, match="Faults of the settings: 1, named above"):
        said(stderr=told)
    assert message in told.getvalue()


def test_a_dry_run_passes_with_a_warning(settings):
    settings.Q_CLUSTER = {"redis": {}}
    told = StringIO()
    assert said(stderr=told) == 'Starting job worker for queue "default"'
    assert told.getvalue().startswith("dbq.W101 Q_CLUSTER['redis'] has no meaning here")


def test_what_a_project_has_silenced_is_not_told(settings):
    settings.JOBS = {"a": ["tests.workflows.nowhere"]}
    settings.SILENCED_SYSTEM_CHECKS = ["dbq.E004"]
    told = StringIO()
    assert said(stderr=told) == 'Starting job worker for queue "default"'
    assert told.getvalue() == ""


@pytest.mark.parametrize(
    "args, message",
    [
        (["--threads", "0"], "must be a whole number from 1 on, not '0'"),
        (["--processes", "x"], "must be a whole number from 1 on, not 'x'"),
        (["--max-jobs=-1"], "must be a whole number from 1 on, not '-1'"),
        (["--rate_limit=-1"], "must be a number of seconds from 0 on, not '-1'"),
        (["--rate_limit", "often"], "must be a number of seconds from 0 on, not 'often'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(args, message):
    with pytest.raises(CommandError, match=message):
        said(*args)


# In a process that calls it, and goes on.


@pytest.fixture
def own_signals():
    """Give this process a handler and a wakeup descriptor of its own."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
    descriptor = signal.set_wakeup_fd(write)
    yield
    signal.set_wakeup_fd(descriptor)
    signal.signal(signal.SIGTERM, handler)
    os.close(read)
    os.close(write)


def signals():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)]
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return handlers, descriptor


@pytest.mark.django_db(transaction=True)
def test_a_process_that_calls_it_keeps_its_signals(own_signals):
    before = signals()
    job = Job.objects.create(name="nothing")
    call_command("worker", burst=True, stdout=StringIO())
    job.refresh_from_db()
    assert job.state == "COMPLETE" and signals() == before


@pytest.mark.django_db(transaction=True)
def test_a_process_that_calls_it_again_and_again_has_no_more_files_open():
    def opened():
        return len(os.listdir("/proc/self/fd"))

    call_command("worker", burst=True, stdout=StringIO())
    before = opened()
    for _ in range(5):
        call_command("worker", burst=True, stdout=StringIO())
    wait_until(lambda: opened() <= before, "what it opened to be closed", 10)
