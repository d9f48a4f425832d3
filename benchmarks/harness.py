"""A private PostgreSQL, a migrated database and worker processes, for one benchmark run."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def prepare() -> None:
    """Start PostgreSQL unless DATABASE_URL names one, set Django up, migrate."""
    if "DATABASE_URL" not in os.environ:
        from tests.embedded import start_postgresql

        os.environ["DATABASE_URL"] = start_postgresql()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def versions() -> str:
    """Say what was measured, in one line."""
    import django
    from django.db import connection

    import django_dbq

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        server = cursor.fetchone()[0]
        cursor.execute("SHOW fsync")
        fsync = cursor.fetchone()[0]
    driver = "psycopg2" if "psycopg2" in sys.modules else "psycopg 3"
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        f"django_dbq {django_dbq.__version__} ({commit or 'no commit'}), Python {platform.python_version()},"
        f" Django {django.__version__}, {driver}, PostgreSQL {server} with fsync {fsync},"
        f" {os.cpu_count()} cores"
    )


def empty_tables() -> None:
    """Leave the tables as young as a new installation has them."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE django_dbq_job, django_dbq_taskrun")
        cursor.execute("CHECKPOINT")


@contextlib.contextmanager
def worker(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process for the time of the block."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker", *args], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)


def spread(samples: list[float]) -> str:
    """Return the median, and the range that the samples span."""
    return f"{statistics.median(samples):,.0f} ({min(samples):,.0f} to {max(samples):,.0f})"
