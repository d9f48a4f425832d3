"""Groups of jobs under one reference, with a final job that runs when the others have ended."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import IntegrityError, models, router, transaction
from django.utils import timezone

from django_dbq.engine.lifecycle import State
from django_dbq.engine.workspace import storable
from django_dbq.exceptions import GroupError
from django_dbq.models.job import Job
from django_dbq.models.queryset import lock_jobs
from django_dbq.models.run import TaskRun

REFERENCE_MAX = 255
UNTOUCHED_STATES = (State.NEW, State.WAITING)
ENDED_STATES = (State.COMPLETE, State.CANCELLED)  # A failed job keeps its group from being done.
# What is looked for, so that the index on group and state finds it.
BEGUN_STATES = tuple(state for state in State if state not in UNTOUCHED_STATES)
UNENDED_STATES = tuple(state for state in State if state not in ENDED_STATES)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group has come. Seconds are None where nothing tells them yet."""

    total: int
    executed: int  # Complete.
    cancelled: int
    with_errors: int  # Jobs of which an attempt failed.
    current_errors: int  # Those of them that have neither completed nor been cancelled since.
    latest_completed: datetime.datetime | None  # When the last job to complete did.
    consumed_seconds: float | None  # Since the group's creation, up to its last job's end.
    remaining_seconds: float | None  # At the pace so far.


class GroupQuerySet(models.QuerySet["Group"]):
    """Groups, deleted by the rules however many are deleted at once."""

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete these groups with their jobs and their history."""
        groups = self._chain()  # type: ignore[attr-defined]
        groups._for_write = True
        with transaction.atomic(using=groups.db):
            _lock_with_jobs(groups.db, list(groups.values_list("pk", flat=True)))
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


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

    objects = GroupQuerySet.as_manager()

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
            group = cls(reference=reference, description=newest.description if newest else None)
            try:
                # One that has no jobs yet may be another process's, which is about to add them.
                group._begin(using, False, using=using)
            except GroupError:
                continue
            return group
        raise GroupError(f"group {reference!r} is being begun and done by others; try again")

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the group; a new one's `final` as by `on_completion`.

        Raises GroupError when a new one's reference has a group that is not done.
        """
        if not self._state.adding:
            if kwargs.get("update_fields") is None:
                self._keep_the_rules(kwargs.get("using"))
            return super().save(*args, **kwargs)
        from django_dbq.store import get_store

        _check_reference(self.reference)
        alias = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        final, self.final = self.final, None  # Until it waits.
        with get_store(alias).write():
            self._begin(alias, True, *args, **kwargs)
            if final is not None:
                self.on_completion(final)

    def _keep_the_rules(self, using: str | None) -> None:
        """Make a changed `final` final as `on_completion` does; refuse a changed reference."""
        using = using or router.db_for_write(Group, instance=self)
        row = Group.objects.using(using).filter(pk=self.pk).values_list("reference", "final").first()
        if row is None:
            return
        if row[0] != self.reference:
            raise GroupError(
                f"group {row[0]!r} keeps its reference; begin another one under {self.reference!r}"
            )
        if self.final is not None and self.final_id != row[1]:
            self.on_completion(self.final)

    def _begin(self, alias: str, over_empty: bool, *args: Any, **kwargs: Any) -> None:
        """Insert this group as the newest under its reference, whose older group has to be done."""
        from django_dbq.store import get_store

        with get_store(alias).write():
            older = Group.objects.using(alias).select_for_update().filter(newest=self.reference).first()
            if older is not None:
                if not older.has_completed() and not (over_empty and not older._jobs().exists()):
                    raise GroupError(
                        f"group {self.reference!r} is not done: {older._unended()}. Let it end, or cancel"
                        " or retry its jobs, before a new group takes its reference."
                    )
                older.newest = None
                older.save(using=alias, update_fields=["newest"])
            self.newest = self.reference
            try:
                with transaction.atomic(using=alias):
                    super().save(*args, **kwargs)
            except IntegrityError as error:
                raise GroupError(
                    f"group {self.reference!r} was begun by another process at the same moment;"
                    " Group.latest_group_by_reference() returns it"
                ) from error

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete this group with its jobs and their history."""
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            _lock_with_jobs(using, [self.pk])
            return super().delete(using, keep_parents)

    def on_completion(self, job: Job) -> None:
        """Make `job` the final one: it runs when the others are complete or cancelled.

        Raises GroupError when it has begun: schedule it in one transaction with this call.
        And when the group has another final job, or the job ends another group.
        """
        from django_dbq.store import get_store

        using = router.db_for_write(Group, instance=self)
        with get_store(using).write():
            final_id = self._locked(using).final_id
            final = Job.objects.using(using).filter(pk=final_id).exclude(pk=job.pk).first()
            if final is not None:
                raise GroupError(
                    f"group {self.reference!r} has a final job already, {final.pk} ({final.state});"
                    " delete that one first to set another"
                )
            other = Group.objects.using(using).filter(final=job).exclude(pk=self.pk).first()
            if other is not None:
                raise GroupError(f"job {job.pk} is the final one of group {other.reference!r} already")
            if not get_store(using).wait_for_group(job, self):
                raise GroupError(
                    f"job {job.pk} cannot be the final one of group {self.reference!r}: a worker has begun"
                    " it, or it has ended. Schedule it and call on_completion() within one"
                    " transaction.atomic() block."
                )
            self.final = job
            self.save(using=using, update_fields=["final"])
        job.refresh_from_db(using=using)

    def has_completed(self, exclude: Job | None = None) -> bool:
        """Tell whether the group has jobs and all, but the one excluded, are complete or cancelled."""
        unended = self._jobs().filter(state__in=UNENDED_STATES)
        if exclude is not None:
            unended = unended.exclude(pk=exclude.pk)
        return not unended.exists() and self._jobs().exists()

    def progress(self) -> Progress:
        """Return how far the group has come."""
        count = models.Count
        failed = TaskRun.objects.filter(job=models.OuterRef("pk"), error__isnull=False)
        found = self._jobs().aggregate(
            total=count("pk"),
            executed=count("pk", filter=models.Q(state=State.COMPLETE)),
            cancelled=count("pk", filter=models.Q(state=State.CANCELLED)),
            with_errors=count("pk", filter=models.Exists(failed)),  # The job's own is gone once it succeeds.
            current_errors=count(
                "pk", filter=models.Q(error__isnull=False) & ~models.Q(state__in=ENDED_STATES)
            ),
            latest_completed=models.Max("finished", filter=models.Q(state=State.COMPLETE)),
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
        return self._jobs().filter(state=State.COMPLETE).order_by("-finished").first()

    def take_in(self, using: str) -> None:
        """Lock the group to add a job to it. Raises GroupError once one of its jobs has begun.

        The lock keeps `wake` from finding the group done without that job.
        """
        self._locked(using)
        begun = self.jobs.using(using).filter(state__in=BEGUN_STATES).order_by()
        for job in begun[:1]:
            raise GroupError(
                f"group {self.reference!r} has begun (job {job.pk} is {job.state}) and takes in no more jobs;"
                " add all jobs of a group within one transaction.atomic() block. The reference is free for a"
                " new group once this one is done."
            )

    def _locked(self, using: str) -> Group:
        """Lock this group's row; return it as it is. Raises GroupError when it has been deleted."""
        for row in _lock(using, [self.pk]):
            return row
        raise GroupError(f"group {self.reference!r} is not in the database: deleted, or never saved")

    def _jobs(self) -> models.QuerySet[Job]:
        """Return its jobs, as the database that the group came from has them."""
        return self.jobs.using(self._state.db)

    def _unended(self) -> str:
        rows = self._jobs().filter(state__in=UNENDED_STATES).order_by("state").values_list("state")
        return ", ".join(f"{number} {state}" for state, number in rows.annotate(models.Count("pk")))


def _lock(using: str, pks: Sequence[Any]) -> list[Group]:
    return list(Group.objects.using(using).filter(pk__in=pks).order_by("pk").select_for_update())


def _lock_with_jobs(using: str, pks: Sequence[Any]) -> None:
    """Lock groups that are to be deleted: nothing is added to them meanwhile, nothing of them recorded."""
    _lock(using, pks)
    lock_jobs(using, Job.objects.using(using).filter(group__in=pks).values("pk"))


def _check_reference(reference: Any) -> None:
    if not isinstance(reference, str) or not 0 < len(reference) <= REFERENCE_MAX:
        raise GroupError(f"a group's reference is text of 1 to {REFERENCE_MAX} characters, not {reference!r}")
    if not storable(reference):
        raise GroupError(
            f"{reference!r} cannot be a group's reference: no database keeps a NUL or half a surrogate pair"
        )
