"""Schedules: what they run and when; and one row for each slot that was dealt with."""

from __future__ import annotations

import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from django_dbq import calls, conf
from django_dbq.engine.lifecycle import FINISHED_STATES, State
from django_dbq.engine.schedule import Kind, Rule
from django_dbq.engine.workflow import QUEUE_NAME_MAX, TASK_PATH_MAX
from django_dbq.exceptions import BadSignature, ScheduleError

if TYPE_CHECKING:
    from django_dbq.models.job import Job

CATCH_UP_MAX = 100  # Slots of one schedule that one pass deals with.


class Schedule(models.Model):
    """A workflow or a function call that becomes a job again and again.

    The function, its arguments and options are signed, as those of a job are; `save()` signs.
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

    _anchored: datetime.datetime | None = None  # The next_run that the row holds.

    def __str__(self) -> str:
        return self.name or self.path

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **kwargs: Any) -> Schedule:
        schedule = super().from_db(db, field_names, values, **kwargs)
        schedule._anchored = schedule.__dict__.get("next_run")
        return schedule

    def rule(self) -> Rule:
        """Return when it is due. Raises ScheduleError when that cannot be read."""
        try:
            kind = Kind(self.kind)
        except ValueError:
            raise ScheduleError(f"{self.kind!r} is no kind of schedule: {', '.join(Kind)}") from None
        anchor = self.anchor
        if not settings.USE_TZ:
            anchor = timezone.make_aware(anchor)
        return Rule(kind, anchor, self.time_zone or settings.TIME_ZONE, self.minutes or 0, self.cron)

    def upcoming(self, number: int) -> list[datetime.datetime]:
        """Return the next slots, `number` at most."""
        if not self.enabled or self.next_run is None:
            return []
        left = number if self.repeats < 0 else min(number, self.repeats)
        just_before = self.next_run - datetime.timedelta(microseconds=1)
        return list(islice(self.rule().slots(just_before), left))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the schedule. Raises ScheduleError or CallError for what could not be fired."""
        if kwargs.get("update_fields") is None:
            if self._state.adding or self.next_run != self._anchored:
                self.anchor = self.next_run or timezone.now()
            rule = self.rule()
            if self._state.adding and rule.kind is Kind.CRON and self.next_run is not None:
                self.next_run = rule.next(self.anchor - datetime.timedelta(microseconds=1))
            self._sign()
        super().save(*args, **kwargs)
        self._anchored = self.next_run

    def _sign(self) -> None:
        if self.call is None:
            conf.workflow(self.path)
            self.signature = None
        else:
            calls.path_of(self.path)
            self.signature = calls.sign_values(self._signed())

    def _signed(self) -> list[Any]:
        return ["schedule", self.path, self.queue_name, self.call, self.date_keyword]

    def job(self, slot: datetime.datetime) -> Job:
        """Return the job of `slot`, not saved. Raises BadSignature for a row that was changed."""
        from django_dbq.models.job import Job

        queue = {"queue_name": self.queue_name} if self.queue_name else {}
        if self.call is None:
            workspace = dict(self.workspace or {})
            if self.date_keyword:
                workspace[self.date_keyword] = slot.isoformat()
            return Job(name=self.path, workspace=workspace, **queue)
        if not calls.values_hold(self._signed(), self.signature):
            raise BadSignature(
                f"the signature of schedule {self.pk} does not hold: its function, arguments, options"
                " or queue are not as they were saved with this SECRET_KEY; save it again"
            )
        call = calls.read(self.call)
        kwargs = {**call.kwargs, **({self.date_keyword: slot} if self.date_keyword else {})}
        return Job(**calls.call_columns(self.path, call.args, kwargs, call.options), **queue)

    def fire(self, now: datetime.datetime) -> int:
        """Create the jobs of the slots that have come, and move on; return how many jobs.

        Call it with the row locked, in a transaction. What it raises leaves nothing behind.
        """
        assert self.next_run is not None
        just_before = self.next_run - datetime.timedelta(microseconds=1)
        due: list[datetime.datetime] = []
        for slot in self.rule().slots(just_before):
            if slot > now or len(due) == CATCH_UP_MAX or len(due) == self.repeats:
                break
            due.append(slot)
        created = 0
        for slot in due if self.catch_up else due[-1:]:
            created += self._deal_with(slot)
        if due:
            self.next_run = self.rule().next(due[-1])
            self.repeats = self.repeats if self.repeats < 0 else self.repeats - len(due)
        if self.next_run is None or self.repeats == 0:
            self.enabled = False
        self.failures, self.error, self.next_try = 0, None, None
        names = ["next_run", "repeats", "enabled", "failures", "error", "next_try"]
        self.save(update_fields=names)
        return created

    def _deal_with(self, slot: datetime.datetime) -> int:
        using = self._state.db
        if self.no_overlap and (last := self.last_run()) is not None and last.state not in FINISHED_STATES:
            ScheduleRun.objects.using(using).create(schedule=self, slot=slot, job=None)
            return 0
        job = self.job(slot)
        job.save(using=using)
        ScheduleRun.objects.using(using).create(schedule=self, slot=slot, job=job)
        return 1

    def last_run(self) -> Job | None:
        """Return the job of the newest slot that has one, or None."""
        newest = self.runs.filter(job__isnull=False).order_by("-slot").select_related("job").first()
        return newest.job if newest else None

    def result(self) -> Any:
        """Return the result of the last run, or None."""
        job = self.last_run()
        return job.result if job else None

    def success(self) -> bool | None:
        """Tell whether the last run is complete; None while there is none or it has not ended."""
        job = self.last_run()
        return None if job is None or job.state not in FINISHED_STATES else job.state == State.COMPLETE


class ScheduleRun(models.Model):
    """A slot that was dealt with; without a job where it was passed over."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="runs")
    slot = models.DateTimeField()
    job = models.ForeignKey(
        "django_dbq.Job", on_delete=models.SET_NULL, null=True, db_constraint=False, related_name="+"
    )

    class Meta:
        ordering: ClassVar = ["schedule", "-slot"]
        constraints: ClassVar = [
            # A slot fires once, however many workers there are: the database holds that.
            models.UniqueConstraint(fields=["schedule", "slot"], name="dbq_schedulerun_once"),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} at {self.slot:%Y-%m-%d %H:%M:%S}"
