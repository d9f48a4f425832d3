"""Where contenders are measured: their environments, databases and worker processes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from benchmarks.contender import Contender, load
from benchmarks.marks import Reader

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "bench"
POLL_SECONDS = 0.005
STOP_SECONDS = 20
NAMES = sorted(path.stem for path in (Path(__file__).parent / "contenders").glob("[a-z]*.py"))


class Failed(Exception):
    """A contender did not do what was asked of it; the message says what."""


class Services:
    """A PostgreSQL with its default durability and, when needed, a Redis; both end with this process."""

    def __init__(self) -> None:
        from tests.embedded import start_postgresql

        self.url = start_postgresql()
        self.folder = Path(tempfile.mkdtemp(prefix="dbq-bench-"))
        self._redis: subprocess.Popen[bytes] | None = None
        self._redis_url = ""

    def database(self, name: str) -> str:
        """Return the URL of an empty database of that name."""
        import psycopg2

        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            cursor.execute(f'CREATE DATABASE "{name}"')
        connection.close()
        return re.sub(r"/postgres\?", f"/{name}?", self.url)

    def server(self) -> str:
        """Say which PostgreSQL it is."""
        import psycopg2

        connection = psycopg2.connect(self.url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), current_setting('fsync')")
            version, fsync = cursor.fetchone() or ("", "")
        connection.close()
        return f"PostgreSQL {version}, fsync {fsync}"

    def redis(self) -> str:
        """Return the URL of a Redis, started with its defaults when first asked for."""
        if self._redis is None:
            program = shutil.which("redis-server")
            if program is None:
                raise Failed("redis-server is needed: apt-get install redis-server")
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            self._redis = subprocess.Popen(
                [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(self.folder)],
                stdout=subprocess.DEVNULL,
            )
            self._redis_url = f"redis://127.0.0.1:{port}/0"
            until(lambda: _answers(port), 10, "Redis did not start")
        return self._redis_url

    def stop(self) -> None:
        """Stop what was started here; PostgreSQL ends by itself."""
        if self._redis is not None:
            self._redis.terminate()
            self._redis.wait(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def until(condition: Callable[[], bool], seconds: float, failure: str) -> None:
    """Wait until a condition holds. Raises Failed when it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(failure)
        time.sleep(POLL_SECONDS)


def newest_python() -> str:
    """Return a Python 3.13 where there is one, or this one."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob("3.13.*/bin/python"))
    return str(pyenv[-1]) if pyenv else shutil.which("python3.13") or sys.executable


def environment(name: str) -> Path:
    """Return the Python of a contender's own environment; make that, unless it is there."""
    folder = CACHE / name
    requirements = [re.sub(r"^\.$", str(ROOT), each) for each in load(name).requirements]
    stamp = folder / "requirements"
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != repr(requirements):
        subprocess.run([newest_python(), "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        editable = [part for each in requirements for part in (["-e", each] if each == str(ROOT) else [each])]
        subprocess.run([*pip, *editable], check=True)
        stamp.write_text(repr(requirements))
    return python


def _alone() -> Path:
    """Return a folder with the benchmarks alone in it: a contender is a package of this project's name."""
    folder = CACHE / "path"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "benchmarks"
    if not link.is_symlink():
        link.symlink_to(ROOT / "benchmarks")
    return folder


class Entrant:
    """One contender, ready to be measured: environment, database, and a process that speaks for it."""

    def __init__(self, name: str, services: Services) -> None:
        self.name = name
        self.kind: type[Contender] = load(name)
        self.python = environment(name)
        self.log = CACHE / f"{name}.log"
        self.marks = Reader(str(services.folder / f"{name}.marks"))  # Of this run alone.
        self.environ = {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("DJANGO_", "DATABASE_"))
            },
            **self.kind.environ,
            "BENCH_DATABASE_URL": services.database(f"bench_{name}"),
            "BENCH_MARKS": self.marks.path,
            "PYTHONPATH": str(_alone()),
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
        }
        if self.kind.redis:
            self.environ["BENCH_REDIS_URL"] = services.redis()
        self._speaker: subprocess.Popen[str] | None = None
        self.ask("prepare")
        self.rest()

    def _start(self, command: list[str], pipes: bool = False) -> subprocess.Popen[str]:
        log: IO[str]
        with self.log.open("a") as log:
            return subprocess.Popen(
                command,
                cwd=_alone(),
                env=self.environ,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def ask(self, do: str, *values: Any) -> Any:
        """Have the contender do something, and return its answer."""
        if self._speaker is None:
            command = [str(self.python), "-m", "benchmarks.contender", self.name]
            self._speaker = self._start(command, pipes=True)
        assert self._speaker.stdin is not None and self._speaker.stdout is not None
        try:
            print(json.dumps({"do": do, "with": values}), file=self._speaker.stdin, flush=True)
            answer = self._speaker.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Failed(f"{self.name} could not {do}: see {self.log}")
        return json.loads(answer)

    def reset(self) -> None:
        """Make the contender's tables, and the marks, empty."""
        self.ask("reset")
        self.marks.clear()

    @contextlib.contextmanager
    def working(self, processes: int = 1, threads: int = 1) -> Iterator[list[subprocess.Popen[str]]]:
        """Run its worker processes for the time of the block."""
        commands = self.ask("workers", processes, threads)
        running = [self._start(command) for command in commands]
        try:
            yield running
        finally:
            for process in running:
                process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=max(0.1, deadline - time.monotonic()))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)  # What it may have left: it leads a session of its own.
                process.wait()

    def rate(
        self,
        jobs: int,
        seconds_max: float,
        processes: int = 1,
        threads: int = 1,
        tasks: int = 1,
        over: bool = True,
    ) -> float:
        """Return the jobs per second that workers make of the `jobs` there are, of so many tasks each.

        From the first task's start until the contender's own records say that all are over,
        or, without `over`, until so many have run.
        After `seconds_max` from the first task the rate is that of the tasks run by then.
        """
        with self.working(processes, threads) as running:

            def begun() -> bool:
                self.check(running)
                return self.marks.counted()[0] > 0

            if not self.kind.marks:

                def over_by_records() -> bool:
                    self.check(running)
                    time.sleep(0.2)  # To count is work for the database that is being measured.
                    return bool(self.ask("finished") >= jobs)

                until(over_by_records, 60, f"{self.name}: not all are over within a minute: see {self.log}")
                first, ended = self.ask("span")
                return jobs / (ended - first)
            until(begun, 60, f"{self.name}: no task has begun within a minute: see {self.log}")
            while True:
                ran, first = self.marks.counted()
                now = time.time()
                if ran >= jobs * tasks:
                    break
                if now - first > seconds_max:
                    return ran / tasks / (now - first)
                self.check(running)
                time.sleep(POLL_SECONDS)
            if over:
                failure = f"{self.name}: not all are over by its records"
                until(lambda: self.ask("finished") >= jobs, 60, failure)
            ended = time.time()
        return jobs / (ended - first)

    def check(self, running: list[subprocess.Popen[str]]) -> None:
        """Raise Failed if a worker process has ended."""
        if any(process.poll() is not None for process in running):
            raise Failed(f"{self.name}: a worker ended early: see {self.log}")

    def resident_bytes(self, pid: int) -> int:
        """Return the resident memory of a process and of all that it has started."""
        total, waiting = 0, [pid]
        while waiting:
            process = Path(f"/proc/{waiting.pop()}")
            total += int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        return total

    def version(self) -> str:
        """Return what was measured: the package and its version."""
        code = f"import importlib.metadata as m; print(m.version({self.kind.package!r}))"
        command = [self.python, "-c", code]
        found = subprocess.run(command, cwd=_alone(), capture_output=True, text=True, check=True)
        return f"{self.kind.package} {found.stdout.strip()}"

    def rest(self) -> None:
        """End the process that speaks for it, so that nothing runs while others are measured."""
        speaker, self._speaker = self._speaker, None
        if speaker is None:
            return
        assert speaker.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            speaker.stdin.close()
        try:
            speaker.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(speaker.pid, 9)
            speaker.wait()


def machine() -> str:
    """Say what it was measured on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}"


def commit() -> str:
    """Return the commit that was measured."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "no commit"
