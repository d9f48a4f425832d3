"""The rows: jobs and their history, groups of jobs, schedules, worker processes, paused queues."""

from django_dbq.models.group import Group
from django_dbq.models.job import (
    DEFAULT_DELETE_JOBS_AFTER_HOURS,
    Job,
    JobManager,
    JobQuerySet,
    TaskRun,
    decode_workspace,
    encode_result,
    encode_workspace,
    uuid7,
)
from django_dbq.models.process import WorkerProcess
from django_dbq.models.queue import PausedQueue
from django_dbq.models.schedule import Schedule, ScheduleRun

__all__ = [
    "DEFAULT_DELETE_JOBS_AFTER_HOURS",
    "Group",
    "Job",
    "JobManager",
    "JobQuerySet",
    "PausedQueue",
    "Schedule",
    "ScheduleRun",
    "TaskRun",
    "WorkerProcess",
    "decode_workspace",
    "encode_result",
    "encode_workspace",
    "uuid7",
]
