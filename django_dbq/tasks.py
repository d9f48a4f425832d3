"""The helpers that the original package had here: from a job's name to its tasks and hooks."""

from __future__ import annotations

from django_dbq import conf
from django_dbq.exceptions import DBQError


def get_next_task_name(job_name: str, current_task: str | None = None) -> str | None:
    """Return the first task of a job, or the one after `current_task`; None after the last.

    Raises UnknownJob for a name, and DBQError for a task, that JOBS does not have.
    """
    plan = conf.workflow(job_name).plan
    if current_task is None:
        return plan[0]
    if current_task not in plan:
        raise DBQError(f"JOBS[{job_name!r}] has no task {current_task!r}; it has {', '.join(plan)}")
    following = plan.index(current_task) + 1
    return plan[following] if following < len(plan) else None


def get_pre_task_hook_name(job_name: str) -> str | None:
    """Return the path of the job's pre_task_hook, or None."""
    return conf.workflow(job_name).pre_task_hook


def get_post_task_hook_name(job_name: str) -> str | None:
    """Return the path of the job's post_task_hook, or None."""
    return conf.workflow(job_name).post_task_hook


def get_failure_hook_name(job_name: str) -> str | None:
    """Return the path of the job's failure_hook, or None."""
    return conf.workflow(job_name).failure_hook


def get_creation_hook_name(job_name: str) -> str | None:
    """Return the path of the job's creation_hook, or None."""
    return conf.workflow(job_name).creation_hook
