"""manage.py monitor: one picture, one document, or a live view in a terminal of its own."""

from __future__ import annotations

import datetime
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rich.console import Console

from django_dbq import Job, WorkerProcess, metrics, pause_queue, paused_queues
from django_dbq.management.monitor import Rates, Reading, frame
from django_dbq.testing import run_jobs
from tests.conftest import DEADLINE_SECONDS, ROOT, test_database_url, wait_until


def said(*args, command="monitor"):
    out = StringIO()
    call_command(command, *args, stdout=out)
    return out.getvalue()


def a_worker(name="one", host="h", seen=0, queues=("default",), threads=1, **values):
    now = timezone.now()
    return WorkerProcess.objects.create(
        name=name,
        host=host,
        pid=4711,
        queue_names=list(queues),
        threads=threads,
        started=now - datetime.timedelta(seconds=3600 + seen),
        seen=now - datetime.timedelta(seconds=seen),
        **values,
    )


def a_running_job(worker="one", name="five", state="PROCESSING", age=0, **values):
    job = Job.objects.create(name=name, **values)
    now = timezone.now()
    Job.objects.filter(pk=job.pk).update(
        state=state,
        claimed_by=worker,
        claim=1,
        lease_until=now + datetime.timedelta(minutes=1),
        modified=now - datetime.timedelta(seconds=age),
    )
    return job


def a_failed_job(error="ValueError: no", age=0, **values):
    ended = timezone.now() - datetime.timedelta(seconds=age)
    return Job.objects.create(name="boom", state="FAILED", finished=ended, error=error, **values)


# What it knows.


@pytest.mark.django_db
def test_workers_are_shown_with_what_they_run():
    a_worker(queues=["a", "b"], tasks_done=7200, tasks_failed=3, rss_bytes=5_000_000)
    job = a_running_job(age=90, queue_name="a")
    [worker] = metrics.overview().workers
    assert (worker.host, worker.pid, worker.state) == ("h", 4711, "busy")
    assert (worker.queues, worker.threads) == (("a", "b"), 1)
    assert (worker.tasks_done, worker.tasks_failed, worker.rss_bytes) == (7200, 3, 5_000_000)
    assert 3600 <= worker.uptime < 3700
    [task] = worker.tasks
    assert (task.job, task.name, task.queue) == (str(job.pk), "five", "a")
    assert task.task == "tests.workflows.count"
    assert 90 <= task.seconds < 190


@pytest.mark.django_db
def test_the_state_of_a_worker_follows_from_its_row_and_its_jobs():
    for name in ("idle", "busy", "stopping"):
        a_worker(name)
    a_worker("gone", seen=31)
    a_running_job("busy")
    a_running_job("stopping", state="STOPPING")
    a_running_job("gone")
    assert {worker.name: worker.state for worker in metrics.overview().workers} == {
        name: name for name in ("idle", "busy", "stopping", "gone")
    }


@pytest.mark.django_db
def test_workers_that_live_come_first_however_many_have_gone(monkeypatch):
    monkeypatch.setattr("django_dbq.metrics.WORKERS_MAX", 3)
    for number, seen in enumerate((9_000, 5_000, 7_000)):
        a_worker(f"gone-{number}", host="a", seen=seen)
    a_worker("two", host="z")
    a_worker("one", host="y")
    found = metrics.overview()
    assert [worker.name for worker in found.workers] == ["one", "two", "gone-1"]
    assert [queue.workers for queue in found.queues] == [2]
    shown = "\n".join(drawn(Reading(found)))
    assert shown.index("\ny ") < shown.index("\nz ") < shown.index("\na ")


@pytest.mark.django_db
def test_of_what_a_worker_has_claimed_as_much_runs_as_it_has_threads():
    a_worker(threads=2)
    for age in (5, 30, 60):
        a_running_job(age=age)
    [worker] = metrics.overview().workers
    assert [round(task.seconds, -1) for task in worker.tasks] == [60, 30]


@pytest.mark.django_db
def test_queues_are_shown_with_what_waits_runs_and_failed():
    now = timezone.now()
    a_worker("one", queues=["served", "empty"])
    a_worker("two", queues=["served"])
    a_worker("gone", seen=3600, queues=["served"])
    for age in (10, 300):
        job = Job.objects.create(name="nothing", queue_name="served")
        Job.objects.filter(pk=job.pk).update(created=now - datetime.timedelta(seconds=age))
    Job.objects.create(name="nothing", queue_name="served", run_after=now + datetime.timedelta(hours=1))
    Job.objects.create(name="nothing", queue_name="served", state="COMPLETE", finished=now)
    a_running_job(queue_name="served")
    a_failed_job(queue_name="served")
    a_failed_job(queue_name="served", age=86_500)
    Job.objects.create(name="nothing", queue_name="nobody's")
    pause_queue("paused")
    found = {queue.name: queue for queue in metrics.overview().queues}
    assert list(found) == ["empty", "nobody's", "paused", "served"]
    served = found["served"]
    assert (served.depth, served.in_progress, served.failed, served.workers) == (2, 1, 1, 2)
    assert 300 <= served.oldest_due_age < 400 and served.later == 1
    assert (found["nobody's"].workers, found["nobody's"].depth) == (0, 1)
    assert (found["empty"].depth, found["empty"].oldest_due_age) == (0, None)
    assert [name for name, queue in found.items() if queue.paused] == ["paused"]


@pytest.mark.django_db
def test_what_waits_for_its_time_is_counted_apart_among_the_soonest(monkeypatch):
    monkeypatch.setattr(metrics, "LATER_MAX", 4)
    now = timezone.now()
    Job.objects.create(name="nothing", queue_name="parked")
    with override_settings(JOBS={}):
        run_jobs()  # A function or job that is nowhere is looked for again later.
    for queue, hours in (("late", 9), ("soon", 2), ("soon", 3), ("soon", 4)):
        Job.objects.create(name="nothing", queue_name=queue, run_after=now + datetime.timedelta(hours=hours))
    assert {queue.name: (queue.depth, queue.later) for queue in metrics.overview().queues} == {
        "parked": (0, 1),
        "soon": (0, 3),
    }


@pytest.mark.django_db
def test_the_newest_failures_are_shown_with_the_first_line_of_their_error():
    for age in range(20):
        a_failed_job(f"ValueError: {age}\nand more", age=age)
    found = metrics.overview().failures
    assert [failure.error for failure in found] == [f"ValueError: {age}" for age in range(10)]
    assert (found[0].name, found[0].task, found[0].queue) == ("boom", "tests.workflows.boom", "default")


@pytest.mark.django_db
def test_a_secret_in_an_error_is_masked():
    a_failed_job("ValueError: no login with password=hunter2")
    [failure] = metrics.overview().failures
    assert "hunter2" not in failure.error


@pytest.mark.django_db
def test_the_number_of_queries_does_not_grow():
    def queries():
        with CaptureQueriesContext(connection) as ran:
            metrics.overview()
        return len(ran)

    a_worker()
    few = queries()
    for n in range(5):
        a_worker(str(n), queues=[str(n)])
        a_running_job(str(n), queue_name=str(n))
        a_failed_job(queue_name=str(n))
        pause_queue(str(n))
    assert queries() == few <= 9


def of(uptime, done, seen_age=0.0, name="one", state="busy"):
    return metrics.Worker(name, "h", 1, state, (), 1, uptime, seen_age, done, 0, None, ())


def test_a_rate_is_taken_from_the_last_two_reports():
    rates = Rates()
    assert rates.read([of(100, 50)]) == {"one": 0.5}  # Since it began.
    assert rates.read([of(105, 50, seen_age=5)]) == {"one": 0.5}  # The same report.
    assert rates.read([of(110, 150)]) == {"one": 10.0}
    assert rates.read([of(112, 150, seen_age=2)]) == {"one": 10.0}
    assert rates.read([of(120, 150)]) == {"one": 0.0}
    assert rates.read([of(130, 150, state="gone")]) == {}


# How it shows it.


def drawn(reading, width=80, height=24, selected=None):
    console = Console(file=StringIO(), width=width, height=height)
    console.print(frame(reading, width, height, selected))
    return console.file.getvalue().splitlines()


def reading_of(**values):
    given = {"workers": (), "queues": (), "failures": (), **values}
    return Reading(metrics.Overview(timezone.now(), **given))


def queue_of(name, **values):
    given = {"paused": False, "workers": 1, "depth": 0, "oldest_due_age": None, "in_progress": 0, "failed": 0}
    return metrics.Queue(name, **{**given, **values})


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (60, 12), (20, 5)])
@pytest.mark.parametrize("many", [0, 1, 100])
def test_a_picture_fits_its_terminal(width, height, many):
    reading = reading_of(
        workers=tuple(of(5, 1, name=str(n)) for n in range(many)),
        queues=tuple(queue_of("q" * 100 + str(n), depth=1_000_000) for n in range(many)),
        failures=tuple(metrics.Failure("id" * 18, "n" * 99, "t", "q", 5.0, "e" * 999) for _ in range(many)),
    )
    lines = drawn(reading, width, height, "q" * 100 + str(many - 1))
    assert len(lines) <= max(height, 9)  # Heads and keys need nine.
    assert all(len(line) <= width for line in lines)
    assert not many or height < 12 or any("> q" in line for line in lines)


def test_every_part_gets_its_share_of_the_lines():
    reading = reading_of(
        workers=tuple(of(5, 1, name=str(n)) for n in range(100)),
        queues=(queue_of("a"), queue_of("b")),
        failures=tuple(metrics.Failure("id", "shop", "t", "q", 5.0, "e") for _ in range(100)),
    )
    lines = drawn(reading)
    assert len(lines) == 24
    assert any(line.startswith("WORKER (7 of 100)") for line in lines)
    assert sum(line.startswith("shop") for line in lines) == 7


def test_a_queue_that_is_paused_or_that_nobody_serves_is_marked():
    queues = (queue_of("a", paused=True), queue_of("b", workers=0, depth=3), queue_of("c", depth=3))
    lines = drawn(reading_of(queues=queues))
    marks = {line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in "abc"}
    assert "paused" in marks["a"] and "no worker" in marks["b"]
    assert marks["c"].split() == ["c", "1", "3", "0", "0", "0"]


def test_a_name_or_an_error_moves_no_cursor_and_is_no_markup():
    failure = metrics.Failure("id", "[red]x\x1b[2J", "t", "q", 5.0, "\x1b]0;title\x07 [/bold]\r\n")
    text = "\n".join(drawn(reading_of(failures=(failure,), queues=(queue_of("\x1b[H"),))))
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    assert "[red]x?[2J" in text and "[/bold]" in text


def test_while_the_database_is_away_the_last_reading_stays_with_the_reason():
    known = reading_of(queues=(queue_of("a", depth=3),))
    lines = drawn(Reading(known.overview, {}, 0.0, time.monotonic() - 200, "connection refused"))
    assert lines[1].rstrip() == "Database away for 3m, trying again: connection refused"
    assert any(line.split() == ["a", "1", "3", "0", "0", "0"] for line in lines)
    [first, *_] = drawn(Reading(None, {}, 0.0, time.monotonic(), "connection refused"))
    assert first.startswith("Database away")


# The command.


@pytest.mark.django_db
@pytest.mark.parametrize("args", [("--once",), ()])
@pytest.mark.parametrize("command", ["monitor", "qmonitor"])
def test_it_prints_one_picture_where_there_is_no_terminal_too(args, command):
    a_worker()
    a_running_job()
    a_failed_job()
    text = said(*args, command=command)
    assert "1 worker on 1 host (1 busy)" in text
    assert "five: count" in text and "ValueError: no" in text
    assert "\x1b" not in text and "quit" not in text


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["monitor", "qmonitor"])
def test_json_is_one_document(command):
    a_worker(tasks_done=7200)
    job = a_running_job()
    a_failed_job()
    found = json.loads(said("--json", command=command))
    assert sorted(found) == ["failures", "now", "queues", "workers"]
    assert found["workers"][0]["tasks"][0]["job"] == str(job.pk)
    assert round(found["workers"][0]["tasks_per_second"]) == 2
    assert found["queues"][0]["in_progress"] == 1
    assert datetime.datetime.fromisoformat(found["now"])


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    Job.objects.using("jobs").create(name="nothing", queue_name="apart")
    assert [queue["name"] for queue in json.loads(said("--json", "--database=jobs"))["queues"]] == ["apart"]


@pytest.mark.django_db
def test_without_rich_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(CommandError, match=r"pip install django-db-queue\[monitor\]"):
        said("--once")
    assert json.loads(said("--json"))


@pytest.mark.parametrize("args", [("--once",), ("--json",)])
def test_one_picture_of_a_database_that_is_away_is_an_error(args, manage):
    process = manage("monitor", *args, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert process.wait() == 1
    assert "CommandError: The database 'default' does not answer: " in process.log()


# Live.


class Terminal:
    """A terminal with the command in it: what it shows, and what is typed."""

    def __init__(self, *args, width=80, height=24):
        self.ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.theirs = theirs
        self.before = termios.tcgetattr(theirs)
        self.shown = ""
        env = {**os.environ, "DATABASE_URL": test_database_url(), "TERM": "xterm"}
        env.pop("COLUMNS", None)
        env.pop("LINES", None)
        self.popen = subprocess.Popen(
            [sys.executable, "manage.py", "monitor", *args],
            cwd=ROOT,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )

    def read(self):
        while select.select([self.ours], [], [], 0)[0]:
            self.shown += os.read(self.ours, 65536).decode(errors="replace")

    def wait_for(self, pattern):
        """Wait until something new that matches is shown; forget what was shown before it."""

        def found():
            self.read()
            return re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown))

        wait_until(found, f"{pattern!r} is shown, not {self.shown[-3000:]!r}")
        self.shown = ""

    def type(self, keys):
        os.write(self.ours, keys.encode())

    def end(self):
        """Return the exit code; check that the terminal is as it was."""
        wait_until(lambda: self.read() or self.popen.poll() is not None, "it ends", DEADLINE_SECONDS)
        assert termios.tcgetattr(self.theirs) == self.before
        assert "\x1b[?1049l" in self.shown and "\x1b[?25h" in self.shown  # The screen, the cursor.
        assert "Traceback" not in self.shown
        return self.popen.returncode

    def close(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(transactional_db):
    opened = []

    def open_one(*args, **values):
        opened.append(Terminal(*args, **values))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_the_view_follows_what_happens_and_q_ends_it(terminal, width, height):
    a_worker()
    view = terminal(width=width, height=height)
    view.wait_for(r"1 worker on 1 host \(1 idle\)")
    a_running_job()
    view.wait_for(r"\(1 busy\)[\s\S]*five: count")
    view.type("q")
    assert view.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_too_and_leaves_the_terminal_as_it_was(terminal, number):
    view = terminal()
    view.wait_for("0 workers")
    os.kill(view.popen.pid, number)
    assert view.end() == 0


def test_p_pauses_and_resumes_the_selected_queue(terminal):
    a_worker(queues=["a", "b", "c"])
    view = terminal()
    view.wait_for("> a")
    view.type("\t")
    view.wait_for("> b")
    view.type("p")
    view.wait_for(r"> b +paused")
    assert paused_queues() == ["b"]
    view.type("p")
    view.wait_for(r"> b {9}")
    wait_until(lambda: paused_queues() == [], "it is resumed")


@pytest.mark.parametrize(
    ("keys", "selected"), [("\x1b[C", "b"), ("\x1bOC\x1bOC", "c"), ("\x1b[D", "c"), ("\t\t", "c")]
)
def test_arrows_and_tab_select_a_queue(terminal, keys, selected):
    a_worker(queues=["a", "b", "c"])
    view = terminal()
    view.wait_for("> a")
    view.type(keys)
    view.wait_for(f"> {selected}")


@pytest.mark.postgresql
def test_it_goes_on_when_the_database_has_cut_it_off(terminal):
    a_worker()
    view = terminal()
    view.wait_for("1 worker")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    view.wait_for("Database away for")
    a_worker("two", host="i")
    view.wait_for("2 workers on 2 hosts")
