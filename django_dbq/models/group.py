"""Groups of jobs under one reference, with a final job that runs when the others have ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import IntegrityError, models, router, transaction
from django.utils import timezone

from django_dbq.engine.lifecycle import FINISHED_STATES, State
from django_dbq.exceptions import GroupError

if TYPE_CHECKING:
    from django_dbq.models.job import Job

REFERENCE_MAX = 255
ENDED_STATES = (State.COMPLETE, State.CANCELLED)  # A failed job keeps its group from being done.


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group has come. Seconds are None where nothing tells them yet."""

    total: int
    executed: int  # Complete.
    cancelled: int
    with_errors: int  # Jobs whose last attempt failed.
    consumed_seconds: float | None  # Since the group's creation, up to its last job's end.
    remaining_seconds: float | None  # At the pace so far.


class Group(models.Model):
    """Jobs that belong together, known by a reference; of each reference the newest counts.

    Jobs are added until one of them begins. A group is done when every job of it is
    complete or cancelled; then the same reference may begin a new one.
    """

    reference = models.CharField(max_length=REFERENCE_MAX, db_index=True)
    # The reference while this group is the newest under it: two processes cannot both begin one.
    newest = models.CharField(max_length=REFERENCE_MAX, null=True, unique=True, editable=False)
    description = models.TextField(blank=True, null=True)
    created = models.DateTimeField(auto_now_add=True)
    final = models.ForeignKey(
        "django_dbq.Job",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="ends",
    )

    class Meta:
        ordering: ClassVar = ["-created", "-id"]

    def __str__(self) -> str:
        return self.reference

    @classmethod
    def latest_group_by_reference(cls, reference: str, using: str | None = None) -> Group:
        """Return the newest group under a reference, or a new one where there is none or it is done.

        Raises GroupError for a reference that cannot be kept.
        """
        using = using or router.db_for_write(cls)
        _check_reference(reference)
        for _ in range(3):  # Another process may begin the same group at this moment.
            newest = cls.objects.using(using).filter(newest=reference).first()
            if newest is not None and not newest.has_completed():
                return newest
            try:
                return cls.objects.using(using).create(
                    reference=reference, description=newest.description if newest else None
                )
            except (GroupError, IntegrityError):
                continue
        raise GroupError(f"group {reference!r} is being begun and done by others; try again")

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the group. Raises GroupError when a new one's reference has a group that is not done."""
        if not self._state.adding:
            return super().save(*args, **kwargs)
        _check_reference(self.reference)
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            older = Group.objects.using(using).select_for_update().filter(newest=self.reference).first()
            if older is not None:
                if older.jobs.exists() and not older.has_completed():
                    raise GroupError(
                        f"group {self.reference!r} is not done: {older._unended()}. Let it end, or cancel"
                        " or retry its jobs, before a new group takes its reference."
                    )
                older.newest = None
                older.save(using=using, update_fields=["newest"])
            self.newest = self.reference
            super().save(*args, **kwargs)

    def on_completion(self, job: Job) -> None:
        """Make `job` the final one: it runs when the others are complete or cancelled.

        Raises GroupError when it has begun: schedule it in one transaction with this call.
        """
        from django_dbq.store import get_store

        using = self._state.db or router.db_for_write(Group, instance=self)
        if self.final_id not in (None, job.pk):
            raise GroupError(f"group {self.reference!r} has a final job already, {self.final_id}")
        if not get_store(using).wait_for_group(job, self):
            raise GroupError(
                f"job {job.pk} cannot be the final one of group {self.reference!r}: a worker has begun it."
                " Schedule it and call on_completion() within one transaction.atomic() block."
            )
        self.final = job
        job.refresh_from_db()

    def has_completed(self, exclude: Job | None = None) -> bool:
        """Tell whether the group has jobs and all, but the one excluded, are complete or cancelled."""
        jobs = self.jobs.all()
        unended = jobs.exclude(state__in=ENDED_STATES)
        if exclude is not None:
            unended = unended.exclude(pk=exclude.pk)
        return jobs.exists() and not unended.exists()

    def progress(self) -> Progress:
        """Return how far the group has come."""
        count = models.Count
        found = self.jobs.aggregate(
            total=count("pk"),
            executed=count("pk", filter=models.Q(state=State.COMPLETE)),
            cancelled=count("pk", filter=models.Q(state=State.CANCELLED)),
            with_errors=count("pk", filter=models.Q(error__isnull=False)),
            latest=models.Max("finished"),
        )
        latest, ended = found.pop("latest"), found["executed"] + found["cancelled"]
        consumed = remaining = None
        if ended:
            until = latest if ended == found["total"] else timezone.now()
            consumed = max(0.0, (until - self.created).total_seconds())
            remaining = consumed / ended * (found["total"] - ended)
        return Progress(**found, consumed_seconds=consumed, remaining_seconds=remaining)

    def latest_executed_job(self) -> Job | None:
        """Return the job that completed last, or None."""
        return self.jobs.filter(state=State.COMPLETE).order_by("-finished").first()

    def take_in(self, using: str) -> None:
        """Lock the group to add a job to it. Raises GroupError once one of its jobs has begun.

        The lock keeps `wake` from finding the group done without that job.
        """
        list(Group.objects.using(using).filter(pk=self.pk).select_for_update(no_key=True).values_list("pk"))
        begun = self.jobs.using(using).filter(
            models.Q(started__isnull=False) | models.Q(state__in=FINISHED_STATES)
        )
        if (job := begun.first()) is not None:
            raise GroupError(
                f"group {self.reference!r} has begun (job {job.pk} is {job.state}) and takes in no more jobs;"
                " the reference is free for a new group once this one is done"
            )

    def _unended(self) -> str:
        rows = self.jobs.exclude(state__in=ENDED_STATES).order_by("state").values_list("state")
        return ", ".join(f"{number} {state}" for state, number in rows.annotate(models.Count("pk")))


def _check_reference(reference: Any) -> None:
    if not isinstance(reference, str) or not 0 < len(reference) <= REFERENCE_MAX:
        raise GroupError(f"a group's reference is text of 1 to {REFERENCE_MAX} characters, not {reference!r}")
