"""What a web process does with a job: create it, look at it while it runs, read its result.

Everything here is the ORM on two tables; whoever runs the job need not be on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from django_dbq import Job
from example.display import display, seconds

NAME = "stdlib_census"
LOOK_SECONDS = 0.1  # Between two looks at the job's row.
OVER = (Job.STATES.COMPLETE, Job.STATES.FAILED, Job.STATES.CANCELLED)


def find_or_create_job(folder: Path, library: Path | None) -> tuple[Job, str]:
    """Return the job to follow, and the news of it.

    A demo that was stopped has left its job in the database. If that outlived the demo, the job goes on.
    """
    job = Job.objects.filter(name=NAME).exclude(state__in=OVER).first()
    if job is not None:
        return job, f"Going on with job {job.id}, which an earlier demo left at {job.next_task}."
    workspace = {"folder": str(folder)}
    if library is not None:
        workspace["library"] = str(library.absolute())
    # From the commit of this one row on, the job will be run.
    job = Job.objects.create(name=NAME, workspace=workspace)
    return job, f"Created job {job.id} of {len(job.plan)} tasks; a worker process runs it."


def until_over(job: Job, console: Console, gone: Callable[[], bool]) -> bool:
    """Show the job until it is over; return whether `gone()` said first that nobody runs it."""
    with display(console) as screen:
        while True:
            nobody = gone()  # Asked before looking: the worker's last record counts.
            job.refresh_from_db()
            screen.show(job, list(job.runs.all()))
            if job.state in OVER:
                return False
            if nobody:
                return True
            time.sleep(LOOK_SECONDS)


def summary(job: Job) -> str:
    """Return what came out, and how long it took by the rows that the worker wrote."""
    result, runs = job.result, list(job.runs.all())
    times = ", ".join(f"{run.task.rpartition('.')[2]} {seconds(run):.2f}" for run in runs)
    return f"""\
Counted  {result["files"]:,} files, {result["lines"]:,} lines, {result["functions"]:,} functions, \
{result["classes"]:,} classes ({result["skipped"]:,} files do not parse)
Seconds  {sum(map(seconds, runs)):.2f} in tasks: {times}
Report   {Path(result["report"]).as_uri()}"""
