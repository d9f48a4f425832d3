"""Follow one real job from start to end: `make demo`, or `python -m example.demo`.

This process plays two parts of a deployment: the database, unless DATABASE_URL names one, and the web
process that creates a job. The worker is a process of its own, as in production; the two share nothing
but the database.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import django
from dj_database_url import UnknownSchemeError
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError
from rich.console import Console

from example.embedded import start_postgresql

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 2.0  # For the running task to finish; then the worker gives its job back and leaves.
LOG_LINES = 20
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

console = Console(highlight=False, markup=False)


class DemoError(Exception):
    """The demo cannot go on; the message tells the person why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m example.demo", description=main.__doc__)
    parser.add_argument("--library", type=Path, help="count the Python code in this folder instead")
    options = parser.parse_args(arguments)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    kept = bool(os.environ.get("DATABASE_URL"))
    try:
        return run(options.library)
    except KeyboardInterrupt:
        say("\nStopped." + (" What was done is kept: the same command goes on with it." if kept else ""))
        return 130
    except DemoError as error:
        say(f"\n{error}")
    except (DatabaseError, ImproperlyConfigured, UnknownSchemeError) as error:
        say(f"\nThe database of DATABASE_URL cannot be used: {str(error).strip()}")
    return 1


def run(library: Path | None) -> int:
    """Set the stage, run one job on it, and tell how it went; return the exit code."""
    folder = Path("demo-census").absolute()
    folder.mkdir(exist_ok=True)
    log = folder / "worker.log"
    prepare()
    from example import follow  # It needs the models, which can be imported once Django is set up.

    job, news = follow.find_or_create_job(folder, library)
    say(f"{news}\n")
    with worker(job.queue_name, log) as process:
        fell = follow.until_over(job, console, gone=lambda: process.poll() is not None)
    if fell:
        raise DemoError(f"The worker ended with exit code {process.returncode}.\n\n{tail(log)}")
    if job.state != job.STATES.COMPLETE:
        raise DemoError(f"The job is {job.state}: {job.error}\n\n{tail(log)}")
    say(f"\n{follow.summary(job)}\n\n{what_next(job.queue_name)}")
    return 0


def prepare() -> None:
    """Start a database if none is given, set Django up on it, and migrate."""
    if not os.environ.get("DATABASE_URL"):
        say("Starting PostgreSQL, private to this demo.")
        os.environ["DATABASE_URL"] = start_postgresql()  # In the environment, for the worker too.
    os.environ["DJANGO_SETTINGS_MODULE"] = "example.settings"
    django.setup()
    call_command("migrate", verbosity=0)


@contextmanager
def worker(queue_name: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a process of its own, its output in `log`; stop it afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "worker", queue_name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # A Ctrl-C is for this process, which then stops the worker.
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the worker to finish its task; then to give its job back and leave; then end it."""
    for ask in (process.terminate, process.terminate, process.kill):
        ask()
        try:
            process.wait(timeout=STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue


def what_next(queue_name: str) -> str:
    """Return what a person could read and type now. tests/test_demo.py types it."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    manage = f"DJANGO_SETTINGS_MODULE=example.settings {python} manage.py"
    return f"""\
Read next
  example/settings.py       where the job and its tasks are named
  example/census/jobs.py    the four tasks
  README.md                 five minutes to a job of your own
  docs/architecture.md      what happened between the row and the report

Type next
  # The same on SQLite. Stop it with Ctrl-C and type it again: it goes on where it was.
  DATABASE_URL=sqlite:///demo.db make demo
  # By hand, on that database: a job, how many wait, and a worker that runs what is due and exits.
  {manage} create_job stdlib_census
  {manage} queue_depth {queue_name}
  {manage} worker {queue_name} --burst
  # Every test that needs no system package.
  make test"""


def tail(log: Path) -> str:
    """Return the end of the worker's log, for a person who has to find out what went wrong."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in lines)])


def say(text: str) -> None:
    """Print text as it is: paths and commands are there to be copied, so no line is broken."""
    console.print(text, soft_wrap=True)


def _interrupt(number: int, frame: object) -> None:
    """Let any request to end stop the worker and the database first; a second one changes nothing."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
