"""Function calls as tasks, as django-q and django-q2 have them."""

from __future__ import annotations

from django_dbq.compat.django_q_objects import AsyncTask, Chain, Iter
from django_dbq.compat.django_q_schedules import schedule
from django_dbq.compat.django_q_tasks import (
    async_chain,
    async_iter,
    async_task,
    count_group,
    delete_cached,
    delete_group,
    fetch,
    fetch_group,
    queue_size,
    result,
    result_group,
)
from django_dbq.models import Schedule
from django_dbq.results import Task

__all__ = [
    "AsyncTask",
    "Chain",
    "Iter",
    "Schedule",
    "Task",
    "async_chain",
    "async_iter",
    "async_task",
    "count_group",
    "delete_cached",
    "delete_group",
    "fetch",
    "fetch_group",
    "queue_size",
    "result",
    "result_group",
    "schedule",
]
