"""The rows: jobs and their history, groups of jobs, schedules, worker processes, paused queues."""

from django_dbq.models.group import Group
from django_dbq.models.ids import uuid7
from django_dbq.models.job import Job
from django_dbq.models.process import WorkerProcess
from django_dbq.models.queryset import DEFAULT_DELETE_JOBS_AFTER_HOURS, JobManager, JobQuerySet
from django_dbq.models.queue import PausedQueue, pause_queue, paused_queues, resume_queue
from django_dbq.models.run import TaskRun
from django_dbq.models.schedule import Schedule, ScheduleRun
from django_dbq.models.views import FailedJob, QueuedJob, SuccessfulJob
from django_dbq.models.workspace import Unreadable, decode, decode_workspace, encode_result, encode_workspace

__all__ = [
    "DEFAULT_DELETE_JOBS_AFTER_HOURS",
    "FailedJob",
    "Group",
    "Job",
    "JobManager",
    "JobQuerySet",
    "PausedQueue",
    "QueuedJob",
    "Schedule",
    "ScheduleRun",
    "SuccessfulJob",
    "TaskRun",
    "Unreadable",
    "WorkerProcess",
    "decode",
    "decode_workspace",
    "encode_result",
    "encode_workspace",
    "pause_queue",
    "paused_queues",
    "resume_queue",
    "uuid7",
]
