"""Fixtures: real workers as processes, and waiting on conditions with a deadline."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connections

ROOT = Path(__file__).parent.parent
DEADLINE_SECONDS = 60  # Reached only by a failure, or on a machine with much else to do.


def pytest_configure(config):
    config.addinivalue_line("markers", "postgresql: runs where the default database is PostgreSQL")
    config.addinivalue_line("markers", "browser: runs with BROWSER=1, where chromium and Playwright are")
    config.addinivalue_line("markers", "chaos(level): runs when CHAOS is quick (unset), ci or all, or above")


def pytest_collection_modifyitems(config, items):
    # Levels of tests/chaos by how long they take; each includes the ones before it.
    levels = ["quick", "ci", "all"]
    wanted = levels[: levels.index(os.environ.get("CHAOS", "quick")) + 1]
    late = [
        item for item in items if (mark := item.get_closest_marker("chaos")) and mark.args[0] not in wanted
    ]
    if late:
        config.hook.pytest_deselected(items=late)
        items[:] = [item for item in items if item not in late]
    if not os.environ.get("BROWSER"):
        unseen = [item for item in items if item.get_closest_marker("browser")]
        if unseen:
            config.hook.pytest_deselected(items=unseen)
            items[:] = [item for item in items if item not in unseen]
    # Chosen by vendor here, so that no test has to skip itself.
    if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        return
    gone = [item for item in items if item.get_closest_marker("postgresql")]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


def wait_until(condition, what="the condition", seconds=DEADLINE_SECONDS):
    """Return the first true value of `condition()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


def test_database_url(alias="default"):
    """Return a URL of the test database of `alias`, for processes that tests start."""
    values = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    scheme = {"postgresql": "postgresql", "mysql": "mysql"}[connections[alias].vendor]
    user = f"{values['USER']}:{values['PASSWORD']}@" if values["USER"] else ""
    port = f":{values['PORT']}" if values["PORT"] else ""
    query = "&".join(
        f"{key}={value}" for key, value in values["OPTIONS"].items() if key in ("host", "unix_socket")
    )
    return f"{scheme}://{user}{values['HOST']}{port}/{values['NAME']}" + (f"?{query}" if query else "")


test_database_url.__test__ = False


class Process:
    """A command of manage.py that runs beside the test; its output is in `log()`."""

    def __init__(self, args, path, env, prefix=()):
        self.path = path
        self._file = path.open("w")
        self.popen = subprocess.Popen(
            [*prefix, sys.executable, "manage.py", *args],
            cwd=ROOT,
            env=env,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        return self.path.read_text()

    def wait(self, seconds=DEADLINE_SECONDS):
        """Return the exit code."""
        try:
            return self.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s; it said:\n{self.log()}") from None

    def kill(self):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, 9)
            self.popen.wait()
        self._file.close()

    def kill_all(self):
        """Kill it and what it has started, so that nothing of it works in the next test."""
        self.kill()
        # The workers of a supervisor have groups of their own, but its session.
        while left := alive(self.pid):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)


def alive(session):
    """Return the ids of the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It has gone meanwhile.
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state not in "ZX":
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def manage(tmp_path):
    """Start a command of manage.py on the test database as a process of its own."""
    started = []

    def start(*args, alias="default", prefix=(), **env):
        env = {
            **os.environ,
            "DATABASE_URL": test_database_url(alias),
            "JOBS_DATABASE_URL": test_database_url("jobs"),
            "DJANGO_SETTINGS_MODULE": "testsettings",
            **env,
        }
        process = Process(args, tmp_path / f"process-{len(started)}.log", env, prefix)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill_all()
