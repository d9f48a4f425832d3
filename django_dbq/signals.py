"""Signals of a job's way, with the arguments of django-q. Nothing is made for one that nobody receives.

What a receiver changes in `task` changes nothing of the job.
"""

from __future__ import annotations

from django.dispatch import Signal

SENDER = "django_q"  # Receivers that are connected for that sender go on receiving.

pre_enqueue = Signal()  # task. What a receiver raises reaches whoever creates the job.
pre_execute = Signal()  # func, task. What a receiver raises fails the attempt.
post_execute = Signal()  # task, with its result. What a receiver raises is logged.
post_execute_in_worker = Signal()  # func, task, with its result. As post_execute, and right before it.
post_spawn = Signal()  # proc_name. As post_execute.
