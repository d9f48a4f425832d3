"""The rows: a job, and one row for each attempt at one of its tasks."""

from __future__ import annotations

import datetime
import inspect
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, ClassVar

from django.core.exceptions import ObjectDoesNotExist
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error, connections, models, router, transaction
from django.db.models.base import ModelState
from django.db.models.functions import Coalesce
from django.db.models.signals import post_init, pre_init
from django.utils import timezone
from django.utils.module_loading import import_string

from django_dbq import calls, conf, signals
from django_dbq.engine.lifecycle import DUE_STATES, FINISHED_STATES, UNBEGUN_STATES, State
from django_dbq.engine.workflow import QUEUE_NAME_MAX, TASK_PATH_MAX
from django_dbq.engine.workspace import encode
from django_dbq.exceptions import DBQError, GroupError, WorkspaceError

DEFAULT_DELETE_JOBS_AFTER_HOURS = 24
LABEL_MAX = 255
ENQUEUE_BATCH = 5_000  # Jobs of one statement of `enqueue_many`,
ENQUEUE_BYTES = 4_000_000  # and of their workspaces.

_UNKNOWN = object()

_uuid7_lock = threading.Lock()
_uuid7_last = 0


def uuid7() -> uuid.UUID:
    """Return a time-ordered UUID (RFC 9562, version 7), growing within this process."""
    global _uuid7_last
    fresh = (time.time_ns() // 1_000_000) << 74 | int.from_bytes(os.urandom(10), "big") >> 6
    with _uuid7_lock:
        # Within a millisecond, or when the clock was set back a little, count up instead.
        behind = _uuid7_last - fresh
        if 0 <= behind < 10_000 << 74:
            fresh = _uuid7_last + 1
        _uuid7_last = fresh
    stamp, rest = fresh >> 74, fresh & ((1 << 74) - 1)
    return uuid.UUID(int=stamp << 80 | 0x7 << 76 | (rest >> 62) << 64 | 0b10 << 62 | rest & ((1 << 62) - 1))


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, created by the rules however many are created at once."""

    def bulk_create(self, objs: Iterable[Job], *args: Any, **kwargs: Any) -> list[Job]:
        """Insert many jobs in one statement; creation hooks run for each, before it."""
        jobs = list(objs)
        self._for_write = True
        with _taken_in(self.db, jobs):
            for job in jobs:
                job._make_ready()
            created = super().bulk_create(jobs, *args, **kwargs)
        for job in jobs:
            job._remember(job._WATCHED_FIELDS)
        _announce(self.db, jobs)
        return created

    def enqueue_many(
        self,
        name: str,
        workspaces: Iterable[dict[str, Any]],
        *,
        queue_name: str | None = None,
        priority: int | None = None,
        run_after: datetime.datetime | None = None,
    ) -> list[uuid.UUID]:
        """Create a job of this name for each workspace, all or none; return their ids, in order.

        It builds no instance for a job, unless a creation hook or a receiver of `pre_enqueue` is to
        see it, and takes the workspaces from any iterable, some thousands at a time.

        Raises UnknownJob, and WorkspaceError with the place of the workspace at fault.
        """
        from django_dbq.store import get_store

        given = {"queue_name": queue_name, "priority": priority, "run_after": run_after}
        given = {key: value for key, value in given.items() if value is not None}
        self._for_write = True
        store = get_store(self.db)
        seen = bool(conf.workflow(name).creation_hook or signals.pre_enqueue.receivers)
        ids: list[uuid.UUID] = []
        with store.write():
            if seen:
                for batch in _batches(Job(name=name, workspace=each, **given) for each in workspaces):
                    ids += [job.id for job in self.bulk_create(batch)]
                return ids
            alike = Job(name=name, **given)
            alike._make_ready()
            texts = (
                encode_workspace({} if each is None else each, f"workspaces[{place}]")
                for place, each in enumerate(workspaces)
            )
            for batch in _batches(texts, len, ENQUEUE_BYTES):
                ids += store.enqueue_many(alike, batch)
        _announce(self.db, [alike] if ids else [])
        return ids

    def to_process(self, queue_name: str) -> JobQuerySet:
        """Return the due jobs of a queue, in claim order, to be locked in a transaction."""
        alias = self.select_for_update().db
        skip = connections[alias].features.has_select_for_update_skip_locked
        due = self.select_for_update(skip_locked=skip).filter(
            models.Q(run_after__isnull=True) | models.Q(run_after__lte=timezone.now()),
            queue_name=queue_name,
            state__in=DUE_STATES,
        )
        return due.order_by("-priority", Coalesce("run_after", "created"), "id")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete these jobs, with their history."""
        jobs = self._chain()  # type: ignore[attr-defined]
        jobs._for_write = True
        with transaction.atomic(using=jobs.db):
            lock_jobs(jobs.db, jobs.values("pk"))
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class JobManager(models.Manager.from_queryset(JobQuerySet)):  # type: ignore[misc]
    """`Job.objects`."""

    def get_ready_or_none(self, queue_name: str, max_retries: int = 3) -> Job | None:
        """Return the next due job of a queue, locked, or None; call it in a transaction.

        `max_retries` is accepted from callers of the original package: a claim that
        skips locked rows has no deadlock to retry.
        """
        return self.to_process(queue_name).first()  # type: ignore[no-any-return]

    def delete_old(self, hours: float | None = None) -> int:
        """Delete finished jobs created more than `hours` ago (24; 0 means all); return how many."""
        from django_dbq.store import get_store

        age = DEFAULT_DELETE_JOBS_AFTER_HOURS if hours is None else hours
        before = timezone.now() - datetime.timedelta(hours=age)
        return get_store(self._db or router.db_for_write(Job)).prune(before).jobs.total()


class Job(models.Model):
    """One run of a workflow named in JOBS.

    The engine owns the columns from `position` on; `save()` never writes those of a
    row that exists.
    """

    class STATES(models.TextChoices):
        NEW = "NEW"
        READY = "READY"
        PROCESSING = "PROCESSING"
        STOPPING = "STOPPING"
        WAITING = "WAITING"
        COMPLETE = "COMPLETE"
        FAILED = "FAILED"
        CANCELLED = "CANCELLED"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created = models.DateTimeField(auto_now_add=True, db_index=True)
    modified = models.DateTimeField(auto_now=True)
    name = models.CharField(max_length=TASK_PATH_MAX)  # Of a function call: its path.
    state = models.CharField(max_length=20, choices=STATES.choices, default=STATES.NEW)
    next_task = models.CharField(max_length=TASK_PATH_MAX, blank=True)
    workspace = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    queue_name = models.CharField(max_length=QUEUE_NAME_MAX, default="default")
    priority = models.SmallIntegerField(default=0)
    run_after = models.DateTimeField(null=True, blank=True)  # The earliest time of the next attempt.

    staged = models.BooleanField(default=True, db_default=True)  # False while run_after is ahead.
    position = models.IntegerField(default=0, db_default=0)  # Of next_task in the plan.
    plan = models.JSONField(null=True, blank=True)  # The task list as it was at creation.
    attempt = models.IntegerField(default=0, db_default=0)  # Starts of the present task.
    lost_attempts = models.IntegerField(default=0, db_default=0)  # Those whose worker died.
    claim = models.BigIntegerField(default=0, db_default=0)  # The fence: one number an attempt.
    claimed_by = models.CharField(max_length=120, null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False, db_default=False)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    error = models.TextField(null=True, blank=True)  # Of the last attempt that failed.

    # Of a function call; see django_dbq.calls. The text is kept as it was signed.
    call = models.TextField(null=True, blank=True, editable=False)
    signature = models.CharField(max_length=128, null=True, blank=True, editable=False)
    identity = models.CharField(max_length=64, null=True, blank=True, editable=False)

    # Of the caller's choosing: a name for people, and one that several jobs share.
    title = models.CharField(max_length=LABEL_MAX, null=True, blank=True)
    label = models.CharField(max_length=LABEL_MAX, null=True, blank=True)

    # Without a database constraint, which would lock the group's row at each insert.
    group = models.ForeignKey(
        "django_dbq.Group",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        related_name="jobs",
    )

    objects = JobManager()

    # Set by the worker that runs this instance.
    prior_state: str
    recorded_workspace: str | None  # JSON text
    trusted_until: float = float("inf")  # time.monotonic() after which the lease may have run out.
    asked_to_stop: bool = False
    timeout_seconds: float | None = None  # Of the present task.
    _writer: Callable[[Job], None] | None = None

    # What a save() of a row that exists writes, where the caller has changed it: workers
    # write this row too, and what they have recorded meanwhile is to stay.
    _WATCHED_FIELDS: ClassVar = (
        *("name", "queue_name", "priority", "run_after"),
        *("workspace", "state", "next_task"),
    )

    class Meta:
        ordering: ClassVar = ["-priority", "created"]
        indexes: ClassVar = [
            models.Index(
                "staged",
                "queue_name",
                models.F("priority").desc(),
                Coalesce("run_after", "created"),
                "id",
                name="dbq_job_claim",
                condition=models.Q(state__in=[state.value for state in DUE_STATES]),
            ),
            models.Index(fields=["run_after"], name="dbq_job_stage", condition=models.Q(staged=False)),
            models.Index(
                fields=["lease_until"], name="dbq_job_lease", condition=models.Q(lease_until__isnull=False)
            ),
            models.Index(
                fields=["identity"],
                name="dbq_job_identity",
                condition=models.Q(
                    identity__isnull=False, state__in=[state.value for state in UNBEGUN_STATES]
                ),
            ),
            models.Index(
                fields=["group", "state"],
                name="dbq_job_group",
                condition=models.Q(group__isnull=False),
            ),
            models.Index(
                fields=["state", "finished"],
                name="dbq_job_finished",
                condition=models.Q(finished__isnull=False),
            ),
            models.Index(fields=["title"], name="dbq_job_title", condition=models.Q(title__isnull=False)),
            models.Index(
                fields=["label", "state"], name="dbq_job_label", condition=models.Q(label__isnull=False)
            ),
            models.Index(fields=["id"], name="dbq_job_waiting", condition=models.Q(state="WAITING")),
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not args and "name" in kwargs and kwargs.get("call") is None:
            # The workflow's own queue and priority are defaults of its jobs.
            entry = conf.workflows().get(kwargs["name"])
            if entry is not None:
                kwargs.setdefault("queue_name", entry.queue_name)
                kwargs.setdefault("priority", entry.priority)
        self._loaded: dict[str, Any] = {}
        super().__init__(*args, **kwargs)

    def __str__(self) -> str:
        return f"{self.name} {self.pk} ({self.state})"

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **kwargs: Any) -> Job:
        job = super().from_db(db, field_names, values, **kwargs)
        job._remember(cls._WATCHED_FIELDS)
        return job

    @classmethod
    def from_row(cls, db: str, values: dict[str, Any]) -> Job:
        """Return what `from_db` returns for a row of all fields, by attribute name, several times as fast.

        Nobody hears of it through Django's `pre_init` and `post_init`; who listens gets `from_db`.
        """
        if pre_init.has_listeners(cls) or post_init.has_listeners(cls):
            return cls.from_db(db, list(values), list(values.values()))
        job = cls.__new__(cls)
        state = ModelState()
        state.adding, state.db = False, db
        job.__dict__.update(values, _state=state, _loaded={})
        job._remember(cls._WATCHED_FIELDS)
        return job

    def refresh_from_db(  # type: ignore[override]  # Django 6 has one argument more.
        self, using: str | None = None, fields: Any = None, **kwargs: Any
    ) -> None:
        super().refresh_from_db(using, fields, **kwargs)
        self._remember(self._WATCHED_FIELDS if fields is None else fields)

    def _remember(self, names: Iterable[str]) -> None:
        """Note what the row holds, to tell later what the caller has changed."""
        known, loaded = self.__dict__, self._loaded
        for name in names:
            if name in known:
                loaded[name] = _snapshot(known[name])
        loaded["group_id"] = known.get("group_id")

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Create the job, or write what a caller may change of it.

        Inside a task this writes workspace and result now, guarded by the claim, and
        raises LeaseLost when the job is no longer this worker's.

        Raises UnknownJob, WorkspaceError, and GroupError for a group that has begun, when
        creating, before anything is written.
        """
        if self._writer is not None:
            return self._writer(self)
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        if self._state.adding:
            with _taken_in(using, [self]):
                self._make_ready()
                super().save(*args, **kwargs)
            self._remember(self._WATCHED_FIELDS)
            return _announce(using, [self])
        if kwargs.get("update_fields") is None and not kwargs.get("force_insert"):
            kwargs["update_fields"] = self._changed_fields()
        self.staged = self._is_due()
        fields = kwargs.get("update_fields") or ()
        if "workspace" in fields:
            encode_workspace({} if self.workspace is None else self.workspace)
        if "run_after" in fields:
            kwargs["update_fields"] = {*kwargs["update_fields"], "staged"}
        if "group" in fields or self.__dict__.get("group_id") != self._loaded.get("group_id", self.group_id):
            raise GroupError(f"job {self.pk} exists: a job's group is given when it is created")
        if "queue_name" in fields and self.call is not None and self._was_signed():
            self.signature = calls.sign(self)  # Of which the queue is a part.
            kwargs["update_fields"] = {*kwargs["update_fields"], "signature"}
        super().save(*args, **kwargs)
        self._remember(fields or self._WATCHED_FIELDS)
        _announce(using, [self])

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete this job, with its history."""
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            lock_jobs(using, [self.pk])
            return super().delete(using, keep_parents)

    def cancel(self) -> bool:
        """Cancel this job; return False when it has finished already.

        One that waits is CANCELLED now. One that runs is told through `should_stop()`
        at its worker's next heartbeat, and is CANCELLED once its present task ends,
        unless that was the last one or failed for good.
        """
        from django_dbq.store import get_store

        using = self._state.db or router.db_for_write(Job, instance=self)
        states = get_store(using).cancel([self.pk])
        self.state = states.get(self.pk, self.state)
        return bool(states)

    def retry(self, *, from_start: bool = False) -> bool:
        """Run this finished job again, from the task it ended at or from its first.

        Its workspace stays, its attempts count anew. Returns False when it has not finished.
        """
        from django_dbq.store import get_store

        using = self._state.db or router.db_for_write(Job, instance=self)
        retried = bool(get_store(using).retry([self.pk], from_start=from_start))
        if retried:
            self.refresh_from_db(using=using)
            _announce(using, [self])
        return retried

    def execute(self) -> Any:
        """Run this function call here and now, in a transaction of its own; return its result.

        What the function raises is recorded as a worker would record it, and raised.
        Raises DBQError inside an `atomic` block, and for a job that is no function call,
        that has begun or that has finished.
        """
        from django_dbq.worker.inline import execute

        using = self._state.db or router.db_for_write(Job, instance=self)
        try:
            return execute(self, using)
        finally:
            with suppress(Error, ObjectDoesNotExist):  # It would hide why the job did not run.
                self.refresh_from_db(using=using)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until this job has ended, for at most so many seconds; tell whether it has.

        What is known of it is then read anew. Raises DBQError inside an `atomic` block,
        where a job that has not ended could not be seen to.
        """
        from django_dbq.results import wait_for

        using = self._state.db or router.db_for_write(Job, instance=self)

        def look() -> bool | None:
            states = Job.objects.using(using).filter(pk=self.pk).values_list("state", flat=True)
            state = states.first()
            return True if state is None or state in FINISHED_STATES else None

        ended = wait_for(look, timeout, using, [self.pk]) is not None
        with suppress(ObjectDoesNotExist):  # One that was not to be kept.
            self.refresh_from_db(using=using)
        return ended

    def should_stop(self) -> bool:
        """Tell a running task that it had better end soon.

        True once somebody asked to cancel the job, the worker was asked to exit, or
        the worker can no longer be sure that the job is still its own.
        """
        return self.asked_to_stop or time.monotonic() > self.trusted_until

    def _changed_fields(self) -> list[str]:
        known = self.__dict__
        changed = [
            name
            for name in self._WATCHED_FIELDS
            if name in known and _snapshot(known[name]) != self._loaded.get(name, _UNKNOWN)
        ]
        return [*changed, "modified"]

    def _was_signed(self) -> bool:
        """Tell whether the signature held before the caller changed the queue."""
        queue_name = self.queue_name
        self.queue_name = self._loaded.get("queue_name", queue_name)
        try:
            return calls.signature_holds(self)
        finally:
            self.queue_name = queue_name

    def _make_ready(self) -> None:
        """Make this new job ready to insert: first task, plan, creation hook, checks."""
        if self.call is not None:
            calls.check(self)
            self.plan, self.next_task, self.position = [self.name], self.name, 0
            self.workspace = self.workspace or {}
            self.signature = calls.sign(self)
            self.staged = self._is_due()
            return self._announce_enqueue()
        entry = conf.workflow(self.name)
        self.plan = list(entry.plan)
        self.next_task = entry.plan[0]
        self.position = 0
        if self.workspace is None:
            self.workspace = {}
        if entry.creation_hook:
            returned = import_string(entry.creation_hook)(self)
            if inspect.iscoroutine(returned):
                returned.close()
                raise DBQError(
                    f"JOBS[{self.name!r}]['creation_hook'] is `async def`: it cannot run in create()"
                )
        encode_workspace(self.workspace)
        self.staged = self._is_due()
        self._announce_enqueue()

    def _announce_enqueue(self) -> None:
        if signals.pre_enqueue.receivers:
            from django_dbq.results import described

            signals.pre_enqueue.send(sender=signals.SENDER, task=described(self))

    @property
    def spent(self) -> bool:
        """Whether workers were lost too often while they ran this task: it is only to be failed."""
        return self.lost_attempts >= conf.options().LOST_ATTEMPTS_MAX

    def _is_due(self) -> bool:
        # A time without a zone is taken, with a warning, as Django's fields take it.
        field: Any = self._meta.get_field("run_after")
        self.run_after = field.get_prep_value(self.run_after)
        return self.run_after is None or self.run_after <= timezone.now()

    @staticmethod
    def get_queue_depths(*, exclude_future_jobs: bool = False, using: str | None = None) -> dict[str, int]:
        """Return the number of waiting jobs by queue; a queue with none has no key."""
        waiting = Job.objects.using(using).filter(state__in=DUE_STATES)
        if exclude_future_jobs:
            waiting = waiting.filter(
                models.Q(run_after__isnull=True) | models.Q(run_after__lte=timezone.now())
            )
        rows = waiting.values_list("queue_name").order_by("queue_name").annotate(models.Count("pk"))
        return dict(rows)


Job.STATES.COMPLETED = Job.STATES.COMPLETE  # type: ignore[attr-defined]  # A TextChoices refuses aliases.


class TaskRun(models.Model):
    """One attempt at one task of a job, written with the record of its outcome."""

    # Without a database constraint: checking it would lock the job's row on each insert,
    # and would keep workers of the original package from deleting old jobs.
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="runs"
    )
    claim = models.BigIntegerField()
    task = models.CharField(max_length=TASK_PATH_MAX)
    position = models.IntegerField()
    attempt = models.IntegerField()
    worker = models.CharField(max_length=120)
    started = models.DateTimeField()
    finished = models.DateTimeField()
    outcome = models.CharField(max_length=20)
    error = models.TextField(null=True)  # With the traceback.
    changes = models.JSONField(null=True)  # {"set": {key: value}, "unset": [key]} of the workspace.

    class Meta:
        ordering: ClassVar = ["job", "claim"]
        constraints: ClassVar = [
            # An attempt is recorded once, whatever happens: the database holds that.
            models.UniqueConstraint(fields=["job", "claim"], name="dbq_taskrun_once"),
        ]

    def __str__(self) -> str:
        return f"{self.task} #{self.attempt} ({self.outcome})"


def _snapshot(value: Any) -> Any:
    """Return what tells later whether `value` has changed, also within."""
    return repr(value) if isinstance(value, (dict, list)) else value


def encode_workspace(workspace: Any, what: str = "workspace") -> str:
    """Return `workspace` as JSON text. Raises WorkspaceError naming what is wrong."""
    if not isinstance(workspace, dict):
        kind = type(workspace).__name__
        raise WorkspaceError(f"{what} must be a dictionary (a JSON object), not {kind}")
    bytes_max = conf.options().WORKSPACE_BYTES_MAX
    return encode(workspace, encoder=DjangoJSONEncoder, bytes_max=bytes_max, what=what)


def encode_result(result: Any) -> str:
    """Return a job's result as JSON text. Raises WorkspaceError naming what is wrong."""
    return encode(
        result,
        encoder=DjangoJSONEncoder,
        bytes_max=conf.options().WORKSPACE_BYTES_MAX,
        what="result",
    )


def decode_workspace(text: str | None) -> dict[str, Any]:
    """Return the workspace that `text` holds; a row without one has an empty workspace."""
    return (json.loads(text) if text else None) or {}


def _batches(
    items: Iterable[Any], size_of: Callable[[Any], int] = lambda _: 0, size_max: int = 1
) -> Iterator[list[Any]]:
    """Yield the items some thousands at a time, fewer when they are large."""
    batch: list[Any] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if len(batch) >= ENQUEUE_BATCH or size >= size_max:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def _taken_in(using: str, jobs: Sequence[Job]) -> Iterator[None]:
    """Keep the groups that new jobs go into locked until these are inserted."""
    from django_dbq.store import get_store

    groups = {job.group.pk: job.group for job in jobs if job.group is not None}
    with get_store(using).write() if groups else nullcontext():
        for pk in sorted(groups):  # In one order everywhere.
            groups[pk].take_in(using)
        yield


def lock_jobs(using: str, pks: Any) -> None:
    """Lock jobs that are to be deleted: a worker that records one just now would leave history behind.

    First the groups that they end, as everywhere: who deletes a group has it, and wants its jobs.
    """
    group: Any = Job._meta.get_field("group").related_model
    groups = group.objects.using(using)
    if ended := list(groups.filter(final__in=pks).values_list("pk", flat=True)):
        list(groups.filter(pk__in=ended).order_by("pk").select_for_update().values_list("pk"))
    jobs = Job.objects.using(using).filter(pk__in=pks)
    list(jobs.order_by("pk").select_for_update().values_list("pk"))


def _announce(using: str, jobs: Sequence[Job]) -> None:
    """Wake the workers that serve these jobs' queues once the caller's transaction commits."""
    from django_dbq.store import get_store

    names = {job.queue_name for job in jobs if job.staged and job.state in DUE_STATES}
    if names:
        get_store(using).announce(names)


assert [*Job.STATES.values] == [*State]
