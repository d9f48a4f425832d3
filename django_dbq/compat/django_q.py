"""Function calls as tasks, as django-q and django-q2 have them."""

from __future__ import annotations

from django_dbq.compat.django_q_objects import AsyncTask, Chain, Iter
from django_dbq.compat.django_q_schedules import schedule
from django_dbq.compat.django_q_tasks import (
    async_chain,
    async_iter,
    async_task,
    count_group,
    count_group_cached,
    delete_cached,
    delete_group,
    delete_group_cached,
    fetch,
    fetch_cached,
    fetch_group,
    fetch_group_cached,
    queue_size,
    result,
    result_cached,
    result_group,
    result_group_cached,
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
    "count_group_cached",
    "delete_cached",
    "delete_group",
    "delete_group_cached",
    "fetch",
    "fetch_cached",
    "fetch_group",
    "fetch_group_cached",
    "queue_size",
    "result",
    "result_cached",
    "result_group",
    "result_group_cached",
    "schedule",
]
