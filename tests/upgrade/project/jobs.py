"""The project's tasks. Each notes in the workspace that it ran, and on which package."""

import time
from pathlib import Path

import django_dbq


def note(job, task):
    package = "original" if django_dbq.__version__ == "3.3.0" else "successor"
    job.workspace = job.workspace or {}
    job.workspace.setdefault("ran", []).append([task, package])


def first(job):
    note(job, "first")


def second(job):
    note(job, "second")


def third(job):
    note(job, "third")


def hang(job):
    """Say that the task began, and never end."""
    Path(job.workspace["began"]).touch()
    while True:
        time.sleep(60)


def boom(job):
    raise ValueError("uh oh")


def note_failure(job, error):
    job.workspace["failure"] = str(error)


def forget(job):
    job.workspace = None
