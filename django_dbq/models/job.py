"""The row of a job, and what can be done with it."""

from __future__ import annotations

import datetime
import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, ClassVar

from django.core.exceptions import ObjectDoesNotExist
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error, models, router, transaction
from django.db.models.base import ModelState
from django.db.models.functions import Coalesce
from django.db.models.signals import post_init, pre_init
from django.utils import timezone
from django.utils.functional import Promise, cached_property
from django.utils.module_loading import import_string

from django_dbq import calls, conf, signals
from django_dbq.engine.lifecycle import DUE_STATES, FINISHED_STATES, UNBEGUN_STATES, State
from django_dbq.engine.workflow import QUEUE_NAME_MAX, SMALLINT_MAX, TASK_PATH_MAX
from django_dbq.exceptions import DBQError, GroupError
from django_dbq.models.ids import read_uuid, uuid7
from django_dbq.models.queryset import JobManager, announce, lock_jobs, taken_in
from django_dbq.models.queue import check_queue_name
from django_dbq.models.workspace import JSONField, decode, decode_workspace, encode_workspace

LABEL_MAX = 255

_UNKNOWN = object()

# A row as it was read: names of columns, their values, and what is the same for all rows.
_Row = tuple[Sequence[str], Sequence[Any], dict[str, Any]]


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
    workspace = JSONField(null=True, encoder=DjangoJSONEncoder)
    queue_name = models.CharField(max_length=QUEUE_NAME_MAX, default="default")
    priority = models.SmallIntegerField(default=0)
    run_after = models.DateTimeField(null=True, blank=True)  # The earliest time of the next attempt.

    staged = models.BooleanField(default=True, db_default=True)  # False while run_after is ahead.
    position = models.IntegerField(default=0, db_default=0)  # Of next_task in the plan.
    plan = JSONField(null=True, blank=True)  # The task list as it was at creation.
    attempt = models.IntegerField(default=0, db_default=0)  # Starts of the present task.
    lost_attempts = models.IntegerField(default=0, db_default=0)  # Those whose worker died.
    claim = models.BigIntegerField(default=0, db_default=0)  # The fence: one number an attempt.
    claimed_by = models.CharField(max_length=120, null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False, db_default=False)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    result = JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
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
    saved_in_block = False  # By its task, within a transaction, which may have undone it.
    trusted_until: float = float("inf")  # time.monotonic() after which the lease may have run out.
    asked_to_stop: bool = False
    timeout_seconds: float | None = None  # Of the present task.
    kept_since: float | None = None  # time.monotonic() since when it has gone on without being claimed.
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
        super().__init__(*args, **kwargs)

    def __str__(self) -> str:
        return f"{self.name} {self.pk} ({self.state})"

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **kwargs: Any) -> Job:
        job = super().from_db(db, field_names, values, **kwargs)
        job._remember(cls._WATCHED_FIELDS)
        return job

    @classmethod
    def from_rows(
        cls,
        db: str,
        names: Sequence[str],
        rows: Iterable[Sequence[Any]],
        settled: dict[str, Any],
        unsent: dict[str, Any],
    ) -> list[Job]:
        """Return jobs from rows read by hand, several times as fast as `from_db` would.

        `names` are those of the columns, `prior_state` among them; the id and all JSON are text.
        `settled` holds what is the same for all, `unsent` what None stands for in a row.
        """
        heard = cls.creation_is_heard()
        whole = {**dict.fromkeys(("_state", "_row", "_urgency", "recorded_workspace", *names)), **settled}
        jobs = []
        for row in rows:
            values = whole.copy()  # With room for all that follows.
            values.update(zip(names, row, strict=True))
            pk = values["id"] = read_uuid(values["id"])
            values["_urgency"] = (-values["priority"], values["run_after"] or values["created"], pk.int)
            values["plan"] = _plan(values["plan"])
            if values["result"] is not None:
                values["result"] = decode(values["result"])
            for name in unsent:
                if values[name] is None:
                    values[name] = unsent[name]
            jobs.append(cls._of(db, values, (names, row, settled), heard))
        return jobs

    @classmethod
    def creation_is_heard(cls) -> bool:
        """Tell whether anybody receives Django's signals of new instances of this model."""
        return pre_init.has_listeners(cls) or post_init.has_listeners(cls)

    @classmethod
    def _of(cls, db: str | None, values: dict[str, Any], row: _Row, heard: bool) -> Job:
        """Return the job of a row, whose workspace is given as text. Its values are taken over."""
        text = values["recorded_workspace"] = values["workspace"]
        values["workspace"] = decode_workspace(text)
        if heard:
            names = [name for name in _field_names() if name in values]
            job = cls.from_db(db, names, [values[name] for name in names])
            job.prior_state, job.recorded_workspace = values["prior_state"], text
            return job
        job = cls.__new__(cls)
        state = values["_state"] = ModelState()
        state.adding, state.db = False, db
        values["_row"] = row
        job.__dict__ = values
        return job

    def as_recorded(self, **changed: Any) -> Job:
        """Return this row as a new instance, on which no task has left anything, with some values changed.

        The workspace is given as text.
        """
        values = {name: self.__dict__[name] for name in _field_names() if name in self.__dict__}
        values |= {"prior_state": self.prior_state, "workspace": self.recorded_workspace, **changed}
        row: _Row = tuple(values), tuple(values.values()), {}
        return self._of(self._state.db, values, row, self.creation_is_heard())

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        """What the row holds of the watched fields, as `_snapshot` returns it."""
        if "_row" not in self.__dict__:
            return {}
        names, row, settled = self.__dict__["_row"]
        values = {**settled, **dict(zip(names, row, strict=True))}
        values["workspace"] = decode_workspace(values["workspace"])
        return {name: _snapshot(values[name]) for name in (*self._WATCHED_FIELDS, "group_id")}

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
            with taken_in(using, [self]):
                self._make_ready()
                super().save(*args, **kwargs)
            self._remember(self._WATCHED_FIELDS)
            return None if self.__dict__.pop("_announced", False) else announce(using, [self])
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
        announce(using, [self])

    def _do_insert(self, manager: Any, using: str, fields: Any, returning_fields: Any, raw: bool) -> Any:
        from django_dbq.store import get_store

        by_hand = not raw and self._meta.concrete_model is Job
        announced = get_store(using).insert(self) if by_hand else None
        self._announced = bool(announced)
        if announced is not None:
            return []
        return super()._do_insert(manager, using, fields, returning_fields, raw)  # type: ignore[misc]

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete this job, with its history."""
        using = using or router.db_for_write(type(self), instance=self)
        pk = self.pk
        with transaction.atomic(using=using):
            lock_jobs(using, [pk])
            deleted = super().delete(using, keep_parents)
        if self._writer is not None:
            self.pk = pk  # By which its worker knows it, whose task goes on.
        return deleted

    def cancel(self) -> bool:
        """Cancel this job; return False when it has finished already.

        One that waits is CANCELLED now. One that runs is told through `should_stop()`
        at its worker's next heartbeat, and is CANCELLED once its present task ends,
        unless that was the last one or failed for good.
        """
        from django_dbq.store import get_store

        using = router.db_for_write(Job, instance=self)
        states = get_store(using).cancel([self.pk])
        self.state = states.get(self.pk, self.state)
        return bool(states)

    def retry(self, *, from_start: bool = False) -> bool:
        """Run this finished job again, from the task it ended at or from its first.

        Its workspace stays, its attempts count anew. Returns False when it has not finished.
        """
        from django_dbq.store import get_store

        using = router.db_for_write(Job, instance=self)
        retried = bool(get_store(using).retry([self.pk], from_start=from_start))
        if retried:
            self.refresh_from_db(using=using)
            announce(using, [self])
        return retried

    def execute(self) -> Any:
        """Run this function call here and now, in a transaction of its own; return its result.

        What the function raises is recorded as a worker would record it, and raised.
        Raises DBQError inside an `atomic` block, and for a job that is no function call,
        that has begun or that has finished.
        """
        from django_dbq.worker.inline import execute

        using = router.db_for_write(Job, instance=self)
        try:
            return execute(self, using)
        finally:
            with suppress(Error, ObjectDoesNotExist):  # It would hide why the job did not run.
                self.refresh_from_db(using=using)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until this job has ended, for at most so many seconds; tell whether it has.

        What is known of it is then read anew. Raises DBQError inside an `atomic` block,
        where a job that has not ended could not be seen to, and for a job that was not created.
        """
        if self._state.adding:
            raise DBQError(f"{self} was not saved: there is nothing to wait for")

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
        self._check_place()
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

    def _check_place(self) -> None:
        """Settle the queue and priority of a new job: None leaves them to its workflow.

        Raises DBQError for one that not every database would take, or no worker serve.
        """
        if self.queue_name is None or self.priority is None:
            entry: Any = conf.workflows().get(self.name) if self.call is None else None
            for name in ("queue_name", "priority"):
                if getattr(self, name) is None:
                    default = self._meta.get_field(name).get_default()
                    setattr(self, name, getattr(entry, name, default))
        queue_name: Any = self.queue_name
        if not hasattr(queue_name, "resolve_expression"):
            check_queue_name(str(queue_name) if isinstance(queue_name, Promise) else queue_name)
        priority: Any = self.priority
        if hasattr(priority, "resolve_expression"):
            return
        least, most = -SMALLINT_MAX - 1, SMALLINT_MAX
        number = most + 1
        with suppress(TypeError, ValueError, OverflowError):
            number = int(priority)
        if not least <= number <= most:
            raise DBQError(f"a job's priority is a number from {least} to {most}, not {priority!r}")

    def _announce_enqueue(self) -> None:
        if signals.pre_enqueue.receivers:
            from django_dbq.results import described

            signals.pre_enqueue.send(sender=signals.SENDER, task=described(self))

    @cached_property
    def _urgency(self) -> tuple[int, datetime.datetime, int]:
        """What claimed jobs are ordered by: priority high to low, due time, id."""
        return (
            -self.priority,
            self.run_after or self.created,
            self.id.int,
        )  # Two UUIDs are compared in Python.

    @property
    def spent(self) -> bool:
        """Whether attempts at this task were lost too often: it is only to be failed."""
        return self.lost_attempts > 0 and self.lost_attempts >= conf.options().LOST_ATTEMPTS_MAX

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


@cache
def _field_names() -> tuple[str, ...]:
    return tuple(field.attname for field in Job._meta.concrete_fields)


@lru_cache(maxsize=1_024)
def _plan(text: str | None) -> tuple[str, ...] | None:
    plan = None if text is None else decode(text)
    return tuple(plan) if isinstance(plan, list) else None  # Anybody may have written anything.


def _snapshot(value: Any) -> Any:
    """Return what tells later whether `value` has changed, also within."""
    return repr(value) if isinstance(value, (dict, list)) else value


assert [*Job.STATES.values] == [*State]
