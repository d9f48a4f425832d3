"""What a chaos test holds in its hands: a database, workers, proxies, the ledger."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

from django_dbq import Job
from tests.chaos import workflows
from tests.chaos.cluster import ALIAS
from tests.chaos.ledger import Ledger, judge
from tests.chaos.proxy import Proxy
from tests.conftest import ROOT, wait_until
from tests.databases import connected

LEASE_SECONDS = 2
POLL_SECONDS = 0.1
# Beyond what the engine promises: the machine may be busy.
SLACK_SECONDS = 20


class Worker:
    """`manage.py worker` in a process group of its own; under --processes with children."""

    def __init__(self, args, path, env, command):
        self.args = args
        self.path = path
        self._file = path.open("a")
        self.popen = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=self._file, stderr=subprocess.STDOUT, start_new_session=True
        )

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        return self.path.read_text(errors="replace")

    def said(self, text):
        return text in self.log()

    def children(self):
        """Return the process ids of the workers that this supervisor has now."""
        found = map(int, re.findall(r"Worker started: pid=(\d+)", self.log()))
        return [pid for pid in dict.fromkeys(found) if is_worker(pid)]

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """End this process as a power cut would; its children live on."""
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def freeze(self):
        freeze(self.pid)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def wait(self, seconds=SLACK_SECONDS):
        """Return the exit code."""
        try:
            return self.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s; it said:\n{self.log()[-4000:]}") from None

    def end(self):
        """Kill what is left of it, each process by its id."""
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
        if self.alive():
            self.kill()
        for pid in self.children():  # Of a supervisor that was about to start one.
            os.kill(pid, signal.SIGKILL)
        if not self._file.closed:
            self._file.close()


def is_worker(pid):
    """Tell whether this is still a process of ours, and neither dead nor another's by now."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"manage.py\0worker" in file.read()
    except OSError:
        return False


def freeze(pid):
    """Stop a process, and wait until every thread of it stands."""
    os.kill(pid, signal.SIGSTOP)

    def stands():
        threads = os.listdir(f"/proc/{pid}/task")
        states = [
            open_text(f"/proc/{pid}/task/{thread}/stat").rpartition(")")[2].split()[0] for thread in threads
        ]
        return set(states) <= {"T", "t"}

    wait_until(stands, f"process {pid} to stand")


def open_text(path):
    with open(path) as file:
        return file.read()


class Chaos:
    """One test's. `seconds` of its helpers are deadlines, never waits."""

    def __init__(self, cluster, name, folder):
        self.cluster = cluster
        self.name = name
        self.folder = folder
        self.ledger = Ledger(folder)
        self.workers = []
        self.proxies = []
        self.faults = []  # Lines for the report of a failure.
        self.created = {}
        self._began = time.monotonic()

    # Processes.

    def proxy(self):
        proxy = Proxy(self.cluster.port)
        self.proxies.append(proxy)
        return proxy

    def environ(self, through=None, socket=False, options=None, env=None, **dbq):
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "DATABASE_URL": self.cluster.url(self.name, through and through.port, socket),
            "CHAOS_FOLDER": str(self.folder),
            "CHAOS_DBQ": json.dumps(dbq),
            "CHAOS_OPTIONS": json.dumps(options or {}),
            **(env or {}),
        }

    def start(self, command, **how):
        """Start a program of this project, with the workers' settings."""
        path = self.folder / f"process-{len(self.workers)}.log"
        process = Worker(command[1:], path, self.environ(**how), [sys.executable, *command])
        self.workers.append(process)
        return process

    def worker(self, *args, ready=True, **how):
        """Start a worker, and by default wait until it is connected to the database."""
        worker = self.start(["manage.py", "worker", *args], **how)
        if ready:
            wait_until(lambda: self.is_ready(worker), f"worker to start: {worker.path}")
        return worker

    def is_ready(self, worker):
        """Tell whether a keeper of it has made its first statements, and a listener listens."""
        assert worker.alive(), worker.log()
        pids = worker.children() or [worker.pid]
        names = [f"worker {pid}" for pid in pids]
        found = self.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = ANY(%s)"
            " AND (query LIKE 'LISTEN%%' OR query LIKE '/* dbq:%%') AND state = 'idle'",
            [self.name, names],
        )
        return found[0][0] >= 2 * len(pids)

    def fault(self, text):
        self.faults.append(f"{time.monotonic() - self._began:8.3f} {text}")

    # Jobs.

    def create(self, name, **fields):
        job = Job.objects.using(ALIAS).create(name=name, **fields)
        self.created[str(job.id)] = name
        return job

    def rows(self, sql, params=None):
        return self.cluster.rows(sql, params)

    @contextmanager
    def session(self):
        """Yield what runs a statement on a connection of its own."""
        with connected(ALIAS) as connection:

            def run(sql, params=None):
                with connection.cursor() as cursor:
                    cursor.execute(sql, params)
                    return cursor.fetchall() if cursor.description else []

            yield run

    def value(self, job, column):
        return self.rows(f"SELECT {column} FROM django_dbq_job WHERE id = %s", [job.id])[0][0]

    def state(self, job):
        return self.value(job, "state")

    def runs(self, job):
        """Return (position, outcome) of each attempt in the history, oldest first."""
        return self.rows(
            "SELECT position, outcome FROM django_dbq_taskrun WHERE job_id = %s ORDER BY claim", [job.id]
        )

    def effects(self, job):
        return self.rows("SELECT count(*) FROM chaos_effect WHERE job_id = %s", [job.id])[0][0]

    def hold(self, position=0):
        """Make tasks at this position, or of the job with this id, wait until `let_go`."""
        (self.folder / f"hold-{position}").touch()

    def let_go(self, position=0, pid=None):
        if pid is None:
            (self.folder / f"hold-{position}").unlink()
        else:
            (self.folder / f"go-{pid}").touch()

    def wait_begun(self, job, times=1, position=0, seconds=SLACK_SECONDS):
        """Wait for a number of starts of a task; return the notes."""
        return wait_until(
            lambda: len(found := self.ledger.begun(job, position)) >= times and found,
            f"start {times} of position {position} of {job.id}; ledger:\n{self.ledger.of(str(job.id))}",
            seconds,
        )

    def wait_state(self, job, state="COMPLETE", seconds=SLACK_SECONDS):
        wait_until(lambda: self.state(job) == state, f"job {job.id} ({job.name}) to be {state}", seconds)

    def live(self):
        """Tell whether a job has not finished."""
        return bool(self.rows("SELECT 1 FROM django_dbq_job WHERE finished IS NULL LIMIT 1"))

    def wait_said(self, worker, text):
        wait_until(lambda: worker.said(text), f"{text!r} in {worker.path}")

    def wait_dropped(self, worker):
        self.wait_said(worker, "Lease lost, outcome dropped")

    def wait_parked(self, job):
        wait_until(
            lambda: self.value(job, "error") and not self.value(job, "staged"), f"{job.id} to be parked"
        )

    def wait_children(self, supervisor, count):
        wait_until(lambda: len(supervisor.children()) == count, f"{count} workers of {supervisor.pid}")

    def wait_extended(self, job, since):
        wait_until(
            lambda: (self.value(job, "lease_until") or since) > since, f"the lease of {job.id} to grow"
        )

    def wait_all(self, seconds=60):
        wait_until(lambda: not self.live(), "every job to finish", seconds)

    # The oracle.

    def judge(self):
        return judge(self.rows, self.ledger.notes(), self.created, workflows.PLANS)

    def assert_kept(self):
        """Every job created here ended COMPLETE, each task recorded once, each effect there once."""
        verdict = self.judge()
        assert not verdict.guilty(), str(verdict)
        return verdict

    def trespasses(self):
        return self.rows("SELECT why, session, job_id FROM chaos_trespass ORDER BY id")

    def story(self):
        """Return what a person needs to see why a test failed."""
        try:
            guilty = self.judge().guilty()[:5]
            trespasses = self.rows("SELECT why, session, job_id, before, after FROM chaos_trespass LIMIT 5")
        except Exception as error:
            guilty, trespasses = [], [f"not known: {error}"]
        parts = [f"faults:\n{chr(10).join(self.faults)}", f"trespasses: {trespasses}"]
        for pk in guilty:
            runs = self.rows(
                "SELECT claim, position, attempt, outcome, worker, started, finished FROM django_dbq_taskrun"
                " WHERE job_id = %s ORDER BY claim",
                [pk],
            )
            history = "\n".join(f"  {' '.join(map(str, run))}" for run in runs)
            row = self.rows("SELECT to_jsonb(job)::text FROM django_dbq_job AS job WHERE id = %s", [pk])
            parts.append(f"job {pk} {row}\nledger:\n{self.ledger.of(pk)}\nhistory:\n{history}")
        for worker in self.workers[-6:]:
            parts.append(f"{worker.path.name} (pid {worker.pid}):\n{worker.log()[-2500:]}")
        return "\n\n".join(parts)

    def end(self):
        for worker in self.workers:
            worker.end()
        for proxy in self.proxies:
            proxy.stop()
