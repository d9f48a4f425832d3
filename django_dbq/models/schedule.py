"""Schedules: what they run and when; and one row for each slot that was fired."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, ClassVar, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from django_dbq import calls, conf
from django_dbq.engine.lifecycle import FINISHED_STATES, State
from django_dbq.engine.schedule import Kind, Rule, check_first, local
from django_dbq.engine.workflow import QUEUE_NAME_MAX, TASK_PATH_MAX
from django_dbq.exceptions import BadSignature, CallError, ScheduleError, UnknownJob, WorkspaceError
from django_dbq.models.job import Job, _snapshot
from django_dbq.models.times import aware, stored
from django_dbq.models.workspace import decode_workspace, encode_workspace

CATCH_UP_MAX = 100  # Slots of one schedule that one pass deals with.
ERROR_MAX = 10_000  # Characters that are kept of a reason.
INSTANT = datetime.timedelta(microseconds=1)


def _gone(name: str, instead: str) -> property:
    """Return what tells that a field of django-q's has another place; a plain attribute would be ignored."""

    def refuse(schedule: Schedule, value: Any = None) -> NoReturn:
        raise AttributeError(f"A Schedule has no {name}: {instead}")

    return property(refuse, refuse)


_ANEW = "it is signed; create the schedule anew, with django_dbq.compat.django_q.schedule()"


class Schedule(models.Model):
    """A workflow or a function call that becomes a job again and again.

    One of the kind `once` is deleted when it has fired, unless `repeats` says how often.
    `next_run` is the next slot, of a new schedule the first. Who sets it moves the slots that
    follow with it, unless a cron line says where they are. Of a schedule that exists
    `save()` writes what the caller has changed, and nothing else: workers write the row too.

    The function, its arguments, its options and the queue are signed, as those of a job are.
    """

    class KINDS(models.TextChoices):
        ONCE = "once"
        MINUTES = "minutes"
        HOURLY = "hourly"
        DAILY = "daily"
        WEEKLY = "weekly"
        BIWEEKLY = "biweekly", "Every other week"
        MONTHLY = "monthly"
        BIMONTHLY = "bimonthly", "Every other month"
        QUARTERLY = "quarterly"
        YEARLY = "yearly"
        CRON = "cron"

    # As callers of django-q write them.
    ONCE, MINUTES, HOURLY, DAILY, WEEKLY, BIWEEKLY, MONTHLY, BIMONTHLY, QUARTERLY, YEARLY, CRON = KINDS
    TYPE: ClassVar = KINDS.choices
    func, schedule_type = _gone("func", "it is path"), _gone("schedule_type", "it is kind")
    cluster = _gone("cluster", "it is queue_name")
    intended_date_kwarg = _gone("intended_date_kwarg", "it is date_keyword")
    task = _gone("task", "last_run() is the job")
    args, kwargs, hook = _gone("args", _ANEW), _gone("kwargs", _ANEW), _gone("hook", _ANEW)

    name = models.CharField(max_length=255, blank=True)
    # The JOBS entry that declares this schedule, if one does: there is one row for each.
    declared = models.CharField(max_length=100, null=True, unique=True, editable=False)

    path = models.CharField(max_length=TASK_PATH_MAX)  # A name of JOBS, or a function's path.
    call = models.TextField(null=True, blank=True, editable=False)  # As in Job; null: a workflow.
    signature = models.CharField(max_length=128, null=True, blank=True, editable=False)
    workspace = models.JSONField(default=dict, blank=True)  # Of a workflow's jobs.
    queue_name = models.CharField(max_length=QUEUE_NAME_MAX, blank=True)  # Empty: the workflow's own.

    kind = models.CharField(max_length=20, choices=KINDS.choices, default=KINDS.ONCE)
    minutes = models.PositiveIntegerField(null=True, blank=True)
    cron = models.CharField(max_length=100, blank=True)
    time_zone = models.CharField(max_length=64, blank=True)  # Empty: TIME_ZONE of the settings.
    anchor = models.DateTimeField(editable=False)  # The first slot, from which the others are counted.
    next_run = models.DateTimeField(null=True, default=timezone.now)  # Null: there is none.
    repeats = models.IntegerField(default=-1)  # How often it still fires; below 0: without end.

    date_keyword = models.CharField(max_length=100, blank=True)  # The argument that is given the slot.
    catch_up = models.BooleanField(default=True)  # Fire every slot that was missed, or only the last.
    no_overlap = models.BooleanField(default=False)  # Pass a slot over while the job before it runs.
    enabled = models.BooleanField(default=True)

    failures = models.IntegerField(default=0, editable=False)  # In a row, to fire.
    next_try = models.DateTimeField(null=True, editable=False)  # Not before, after a failure.
    error = models.TextField(null=True, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["next_run", "id"]
        indexes: ClassVar = [
            models.Index(fields=["next_run"], name="dbq_schedule_due", condition=models.Q(enabled=True)),
        ]

    _RULE: ClassVar = ("kind", "minutes", "cron", "time_zone")
    _DERIVED: ClassVar = ("anchor", "next_run", "signature", "failures", "error", "next_try")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loaded: dict[str, Any] = {}  # What the row holds.
        super().__init__(*args, **kwargs)

    def __str__(self) -> str:
        return self.name or self.path

    @classmethod
    def of_call(
        cls,
        function: Callable[..., Any] | str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        via: tuple[str, str] | None = None,
        typed: bool = False,
        **fields: Any,
    ) -> Schedule:
        """Return a schedule, not saved, of calls of `function`.

        `options` are those of one call: retry, timeout_seconds, atomic, queue_name; `via` and `typed`
        are as in `calls.call_columns`. Raises CallError, naming the argument or option, for
        what no worker could call.
        """
        columns = calls.call_columns(function, args, kwargs, options or {}, via=via, typed=typed)
        queue = {"queue_name": columns["queue_name"]} if "queue_name" in columns else {}
        schedule = cls(path=columns["name"], call=columns["call"], **{**queue, **fields})
        schedule.check_arguments()
        return schedule

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **kwargs: Any) -> Schedule:
        schedule = super().from_db(db, field_names, values, **kwargs)
        schedule._remember(field.attname for field in cls._meta.concrete_fields)
        return schedule

    def refresh_from_db(  # type: ignore[override]  # Django 6 has one argument more.
        self, using: str | None = None, fields: Any = None, **kwargs: Any
    ) -> None:
        super().refresh_from_db(using, fields, **kwargs)
        self._remember(fields or [field.attname for field in self._meta.concrete_fields])

    def _remember(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.__dict__:
                self._loaded[name] = _snapshot(self.__dict__[name])

    def _changed(self) -> set[str]:
        known = self.__dict__
        names = [field.attname for field in self._meta.concrete_fields if field.attname in known]
        return {name for name in names if _snapshot(known[name]) != self._loaded.get(name, _snapshot)}

    # When.

    def rule(self) -> Rule:
        """Return when it is due. Raises ScheduleError when that cannot be read."""
        try:
            kind = Kind(self.kind)
        except ValueError:
            raise ScheduleError(f"{self.kind!r} is no kind of schedule: {', '.join(Kind)}") from None
        anchor = aware(self.anchor or self.next_run or timezone.now())
        return Rule(kind, anchor, self.zone_name, self.minutes or 0, self.cron)

    @property
    def zone_name(self) -> str:
        """The name of its time zone."""
        return self.time_zone or settings.TIME_ZONE

    def upcoming(self, number: int) -> list[datetime.datetime]:
        """Return the next slots, `number` at most, in its time zone."""
        if not self.enabled or self.next_run is None:
            return []
        left = number if self.repeats < 0 else min(number, self.repeats)
        return [self.shown(slot) for slot in islice(self._slots(), left)]

    def shown(self, slot: datetime.datetime) -> datetime.datetime:
        """Return a time by the clock of its time zone."""
        return local(aware(slot), self.zone_name)

    def is_due(self, now: datetime.datetime) -> bool:
        """Tell whether a slot has come that is still to be fired."""
        return self.enabled and self.next_run is not None and self.next_run <= now

    def _slots(self) -> Iterator[datetime.datetime]:
        """Yield the next slot, wherever somebody has put it, and those that follow by the rule."""
        assert self.next_run is not None
        first = aware(self.next_run)
        yield first
        if self.kind != Kind.ONCE:
            yield from _later(self.rule(), first)

    # Writing.

    def clean(self) -> None:
        """Check what forms cannot check field by field."""
        try:
            self._check(self._changed())  # Of a new one: everything.
        except (ScheduleError, CallError, UnknownJob, WorkspaceError) as error:
            raise ValidationError(str(error)) from error

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Create the schedule, or write what the caller has changed of it.

        Raises ScheduleError, UnknownJob, CallError or WorkspaceError for what could not be fired.
        """
        if self._state.adding or kwargs.get("force_insert"):
            self._begin()
        else:
            named = kwargs.get("update_fields")
            self._go_on(self._changed() if named is None else self._changed() & {*named})
            changed = self._changed()
            derived = changed.intersection(self._DERIVED)
            kwargs["update_fields"] = changed if named is None else {*named} | derived
        super().save(*args, **kwargs)
        self._remember(kwargs.get("update_fields") or [field.attname for field in self._meta.concrete_fields])

    def _begin(self) -> None:
        """Make this new schedule ready to insert: first slot, signature, checks."""
        if isinstance(self.next_run, str):
            self.next_run = self._meta.get_field("next_run").to_python(self.next_run)
        self.anchor = self.next_run = self.next_run or timezone.now()
        self._check(self._changed())
        if self.kind == Kind.CRON:
            self.next_run = stored(self.rule().next(aware(self.anchor) - INSTANT))
        self.signature = None if self.call is None else calls.sign_values(self._signed())

    def _go_on(self, changed: set[str]) -> None:
        """Settle what follows from what the caller has changed."""
        now = timezone.now()
        moved, other_rule = "next_run" in changed, not changed.isdisjoint(self._RULE)
        woken = "enabled" in changed and self.enabled
        if moved or other_rule:
            self.anchor = self.next_run or now
        if other_rule and not moved and (self.next_run is None or self.kind == Kind.CRON):
            self.anchor = now
        self._check(changed | ({"path", "kind"} if woken else set()))
        if other_rule and not moved and (self.next_run is None or self.kind == Kind.CRON):
            self.next_run = stored(self.rule().next(aware(now) - INSTANT))
        elif woken and not moved and self.kind != Kind.ONCE and (not self.next_run or self.next_run < now):
            self.next_run = stored(next(_later(self.rule(), aware(now)), None))  # The past has gone.
        if changed and self.enabled:
            self.failures, self.error, self.next_try = 0, None, None
        self._sign_again()

    def _check(self, names: set[str]) -> None:
        """Raise for values of these columns with which it could not be fired; take the workspace as JSON."""
        if "next_run" in names and isinstance(self.next_run, datetime.datetime):
            check_first(self.next_run)
        if names.intersection(self._RULE):
            self.rule()
        if "enabled" in names and self.enabled and not self._state.adding:
            if self.repeats == 0:
                raise ScheduleError("it has run as often as it should: give repeats to enable it")
            if self.kind == Kind.ONCE and self.next_run is None:
                raise ScheduleError("it has run: give next_run, when it is to run again, to enable it")
        keyword = self.date_keyword if names & {"date_keyword", "call"} and self.call is not None else ""
        if keyword and not keyword.isidentifier():
            raise ScheduleError(f"date_keyword: {keyword!r} is no name of an argument")
        if names & {"path", "call"}:
            if self.call is None:
                conf.workflow(self.path)
            else:
                calls.path_of(self.path)
        if names & {"path", "call", "date_keyword"}:
            self.check_arguments()
        if "workspace" in names:
            # As a job would write it: dates as text.
            self.workspace = decode_workspace(
                encode_workspace({} if self.workspace is None else self.workspace)
            )

    def check_arguments(self) -> None:
        """Raise CallError for arguments, the slot among them, that its function does not take."""
        if self.call is None:
            return
        try:
            call = calls.read(self.call)
        except Exception as error:
            raise CallError(f"the call of {self.path!r} is not as of_call() writes it: {error!r}") from error
        if call.via is None:  # Else its path leads to something else.
            given = {self.date_keyword: None} if self.date_keyword.isidentifier() else {}
            calls.check_signature(self.path, call.args, {**call.kwargs, **given})

    # The signature.

    def _signed(self) -> list[Any]:
        return ["schedule", self.path, self.queue_name, self.call, self.date_keyword]

    def _sign_again(self) -> None:
        """Sign what the caller has changed, and with the present key, if what was loaded held."""
        if self.call is None:
            return
        names = ("path", "queue_name", "call", "date_keyword")
        loaded = [self._loaded.get(name, getattr(self, name)) for name in names]
        if calls.values_hold(["schedule", *loaded], self.signature):
            self.signature = calls.sign_values(self._signed())

    # Firing.

    def job(self, slot: datetime.datetime) -> Job:
        """Return the job of `slot`, not saved; nothing is imported.

        Raises BadSignature for a row that was changed, and UnknownJob.
        """
        label = {"label": self.name or str(self.pk)}
        queue = {"queue_name": self.queue_name} if self.queue_name else {}
        if self.call is None:
            conf.workflow(self.path)
            workspace = dict(self.workspace or {})
            if self.date_keyword:
                workspace[self.date_keyword] = self.shown(slot).isoformat()
            return Job(name=self.path, workspace=workspace, **label, **queue)
        if not calls.values_hold(self._signed(), self.signature):
            raise BadSignature(
                f"the signature of schedule {self.pk} does not hold: its function, arguments, options or"
                " queue are not as they were saved with this SECRET_KEY, so nothing was imported; delete"
                " it, and create it anew"
            )
        call = calls.read(self.call)
        given = {self.date_keyword: self.shown(slot)} if self.date_keyword else {}
        columns = calls.columns_of(
            self.path, call.args, {**call.kwargs, **given}, call.options, call.via, typed=call.typed
        )
        return Job(**{**label, **columns, **queue})

    def fire(self, now: datetime.datetime, seconds: float = math.inf) -> int:
        """Create the jobs of the slots that have come, and move on; return how many jobs.

        After so many seconds the rest is left to the next call. Call it with the row locked, in
        a transaction. What it raises leaves nothing behind.
        """
        until = time.monotonic() + seconds
        using, rule = self._state.db, self.rule()
        due = self._due(rule, aware(now))
        # Set back by hand, it may come to slots that were fired.
        runs = ScheduleRun.objects.using(using)
        fired = {*runs.filter(schedule=self, slot__in=map(stored, due)).values_list("slot", flat=True)}
        slots = [slot for slot in due if stored(slot) not in fired]
        if self.no_overlap and slots:
            slots = slots[:1] if self._last_has_ended() else []
        made: list[ScheduleRun] = []
        for slot in slots:
            if made and time.monotonic() >= until:
                due = [each for each in due if each < slot]
                break
            job = self.job(slot)
            Job.objects.using(using).bulk_create([job])  # Its creation hook may take any time.
            made.append(ScheduleRun(schedule=self, slot=stored(slot), job=job))
        runs.bulk_create(made)
        if due:
            self.next_run = None if self.kind == Kind.ONCE else stored(next(_later(rule, due[-1]), None))
        if self.repeats > 0:
            self.repeats -= len(made)
        self.enabled = self.next_run is not None and self.repeats != 0
        self.failures, self.error, self.next_try = 0, None, None
        if made and self.kind == Kind.ONCE and self.repeats < 0 and self.declared is None:
            self.delete(using=using)  # Its name is free again.
            return len(made)
        self._sign_again()  # So that it outlives the key it was first signed with.
        self._write("next_run", "repeats", "enabled", "failures", "error", "next_try", "signature")
        return len(made)

    def _due(self, rule: Rule, now: datetime.datetime) -> list[datetime.datetime]:
        """Return the slots that have come and are to be fired, a bounded number."""
        if self.next_run is None or self.repeats == 0 or aware(self.next_run) > now:
            return []
        first = aware(self.next_run)
        if not self.catch_up:
            last = None if self.kind == Kind.ONCE else rule.last(first, now)
            return [last or first]
        most = CATCH_UP_MAX if self.repeats < 0 else min(CATCH_UP_MAX, self.repeats)
        return list(islice(takewhile(lambda slot: slot <= now, self._slots()), most))

    def _last_has_ended(self) -> bool:
        last = self.last_run()
        return last is None or last.state in FINISHED_STATES

    def fail(self, error: BaseException, now: datetime.datetime, *, pause_seconds: float, most: int) -> None:
        """Note that it could not be fired: it is tried again later, or disabled after so many times."""
        self.failures += 1
        reason = f"{type(error).__name__}: {error}"
        self.next_try = now + datetime.timedelta(seconds=pause_seconds * self.failures)
        if self.failures >= most:
            self.enabled, self.next_try = False, None
            reason = f"disabled after {self.failures} failures: {reason}"
        self.error = reason.replace("\0", "")[:ERROR_MAX]
        self._write("failures", "next_try", "enabled", "error")

    def _write(self, *names: str) -> None:
        super().save(using=self._state.db, update_fields=names)
        self._remember(names)

    # What became of it.

    def last_run(self) -> Job | None:
        """Return the job of the newest slot that has one, or None."""
        newest = self.last_slot()
        return newest.job if newest else None

    def last_slot(self) -> ScheduleRun | None:
        """Return the newest slot that was fired and whose job is still there, with that job; or None."""
        runs = ScheduleRun.objects.using(self._state.db).filter(schedule=self, job__isnull=False)
        return runs.order_by("-slot").select_related("job").first()

    def result(self) -> Any:
        """Return the result of the last run, or None."""
        job = self.last_run()
        return calls.value_of(job) if job else None

    def success(self) -> bool | None:
        """Tell whether the last run is complete; None while there is none or it has not ended."""
        job = self.last_run()
        return None if job is None or job.state not in FINISHED_STATES else job.state == State.COMPLETE


class ScheduleRun(models.Model):
    """A slot that was fired, and its job; with that one it is deleted."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="runs")
    slot = models.DateTimeField()
    # With its job a run may go: `next_run` has moved on in the transaction that made both.
    job = models.ForeignKey(
        "django_dbq.Job", on_delete=models.CASCADE, null=True, db_constraint=False, related_name="+"
    )

    class Meta:
        ordering: ClassVar = ["schedule", "-slot"]
        constraints: ClassVar = [
            # A slot fires once, however many workers there are: the database holds that.
            models.UniqueConstraint(fields=["schedule", "slot"], name="dbq_schedulerun_once"),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} at {self.slot:%Y-%m-%d %H:%M:%S}"


def _later(rule: Rule, slot: datetime.datetime) -> Iterator[datetime.datetime]:
    """Yield the slots that follow this one, but for those that rows cannot tell from one before.

    Without USE_TZ rows hold the time of a clock, which an autumn night shows twice.
    """
    last = stored(slot)
    for later in rule.slots(slot):
        if stored(later) > last:
            last = stored(later)
            yield later
