"""Old jobs go: by age, by number, and with the group that they are of."""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import connections, models
from django.db.models.functions import Coalesce, RowNumber

from django_dbq.engine.lifecycle import FINISHED_STATES, HELD_STATES, UNBEGUN_STATES, State
from django_dbq.models import Group, Job, ScheduleRun, TaskRun
from django_dbq.store.part import Part

PRUNE_BATCH = 1_000
TRIM_BATCH = 5_000
PRUNE_GROUPS = 10  # At a time: of more, PostgreSQL might look for the jobs by reading the whole table.

# What prune removes; STOPPING only where no lease is held: those are the original's.
PRUNED_STATES = (*FINISHED_STATES, State.STOPPING)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune has deleted."""

    jobs: Counter[str]  # By state.
    groups: int


class Pruning(Part):
    """Deletes jobs that have ended, a bounded batch at a time."""

    @abstractmethod
    def _prune_batch(
        self,
        before: datetime.datetime,
        *,
        since: datetime.datetime | None,
        states: Collection[str],
        limit: int,
    ) -> list[tuple[str, datetime.datetime]]:
        """Delete up to `limit` jobs in these states created from `since` to `before`, with their history.

        Those of a group are left. Return the state of each and when it was created.
        """

    def prune(
        self,
        before: datetime.datetime,
        *,
        states: Collection[str] = PRUNED_STATES,
        limit: int | None = None,
    ) -> Pruned:
        """Delete jobs in these states created before `before`, a batch of `limit` at a time.

        A group goes as a whole: its jobs stay while any of them is not finished, or is
        younger. Nobody waits for the locks of one batch longer than that batch takes.
        """
        limit = limit or PRUNE_BATCH
        gone: Counter[str] = Counter()
        since = None
        while batch := self._prune_batch(before, since=since, states=states, limit=limit):
            gone.update(state for state, _ in batch)
            since = max(created for _, created in batch)
        return self._prune_groups(before, "created", states, limit, gone)

    def prune_ended(self, before: datetime.datetime) -> Pruned:
        """As `prune`, by when jobs ended."""
        gone: Counter[str] = Counter()
        for state in FINISHED_STATES:  # One at a time: so the index has them in order.
            ended = self._finished().filter(state=state, finished__lte=before, group__isnull=True)
            since = None
            while True:
                rest = ended if since is None else ended.filter(finished__gte=since)
                batch = list(rest.order_by("finished").values_list("pk", "finished")[:PRUNE_BATCH])
                deleted = self._delete_finished([pk for pk, _ in batch])
                gone += deleted
                if len(batch) < PRUNE_BATCH or not deleted:
                    break
                since = batch[-1][1]
        return self._prune_groups(before, "finished", FINISHED_STATES, PRUNE_BATCH, gone)

    def _prune_groups(
        self, before: datetime.datetime, column: str, states: Collection[str], limit: int, gone: Counter[str]
    ) -> Pruned:
        """Delete the jobs of groups that are over, then the groups that have none left."""
        old = Group.objects.using(self.using).filter(created__lte=before).order_by("pk")
        last, groups = 0, 0
        while ids := list(old.filter(pk__gt=last).values_list("pk", flat=True)[:PRUNE_GROUPS]):
            last = ids[-1]
            unfinished = self._of_groups(ids).filter(state__in=(*UNBEGUN_STATES, *HELD_STATES))
            kept = set(unfinished.order_by().values_list("group", flat=True).distinct())
            young = self._of_groups(set(ids) - kept).filter(**{f"{column}__gt": before})
            kept |= set(young.order_by().values_list("group", flat=True).distinct())
            over = set(ids) - kept
            jobs = self._of_groups(over).filter(state__in=states).order_by()
            while deleted := self._delete_finished(list(jobs.values_list("pk", flat=True)[:limit])):
                gone += deleted
            groups += self._delete_empty(over)
        return Pruned(gone, groups)

    def discard(self, job_ids: Collection[Any]) -> int:
        """Delete jobs that nobody wants to keep, where they have ended; return how many."""
        return self._delete_finished(job_ids).total()

    def trim(self, kept: int) -> int:
        """Delete successes beyond the newest `kept` of each label, or name, a bounded batch; return how many.

        Those of a group stay: it goes as a whole.
        """
        return self._trim(self._successes(), kept, Coalesce("label", "name"))

    def trim_queues(self, queue_names: Collection[str], kept: int, per: str | None) -> int:
        """As `trim`, in these queues: beyond the newest `kept` of each value of the column `per`.

        None: of all together. A job without a title has it to itself.
        """
        successes = self._successes().filter(queue_name__in=queue_names)
        if per is not None:
            named = successes.filter(title__isnull=False) if per == "title" else successes
            return self._trim(named, kept, models.F(per))
        beyond = successes.order_by("-finished", "-id").values_list("pk", flat=True)
        return self._delete_finished(list(beyond[kept : kept + TRIM_BATCH])).total()

    def _successes(self) -> models.QuerySet[Job]:
        complete = Job.objects.using(self.using).filter(state=State.COMPLETE, finished__isnull=False)
        return complete.filter(group__isnull=True)  # type: ignore[no-any-return]

    def _trim(self, successes: models.QuerySet[Job], kept: int, per: Any) -> int:
        newest_first = [models.F("finished").desc(), models.F("id").desc()]
        place = models.Window(RowNumber(), partition_by=[per], order_by=newest_first)
        beyond = successes.annotate(place=place).filter(place__gt=kept).order_by()
        return self._delete_finished(list(beyond.values_list("pk", flat=True)[:TRIM_BATCH])).total()

    def forget_label(self, label: str, *, delete: bool) -> int:
        """Take a label off the jobs that have it and have ended, or delete these; return how many."""
        jobs = self._finished().filter(label=label)
        if delete:
            return self._delete_finished(list(jobs.values_list("pk", flat=True))).total()
        return int(jobs.update(label=None, modified=self.clock()))

    def _delete_finished(self, job_ids: Collection[Any]) -> Counter[str]:
        """Delete those of these jobs that are finished and that nobody holds locked; count them by state."""
        if not job_ids:
            return Counter()
        skip = connections[self.using].features.has_select_for_update_skip_locked
        with self.write():
            # A group before the job that ends it, as in `lock_jobs`.
            ends = Group.objects.using(self.using).filter(final__in=job_ids).order_by("pk")
            finals = dict(ends.values_list("pk", "final"))
            rows = ends.filter(pk__in=finals).select_for_update(skip_locked=skip)
            locked = set(rows.values_list("pk", flat=True)) if finals else set()
            busy = {final for group, final in finals.items() if group not in locked}
            jobs = self._finished().filter(pk__in=set(job_ids) - busy).select_for_update(skip_locked=skip)
            states = dict(jobs.values_list("pk", "state"))
            self._delete(list(states))
        return Counter(states.values())

    def _delete(self, job_ids: Collection[Any]) -> None:
        """Delete these jobs, which are locked, with their history."""
        TaskRun.objects.using(self.using).filter(job_id__in=job_ids)._raw_delete(self.using)
        ScheduleRun.objects.using(self.using).filter(job_id__in=job_ids)._raw_delete(self.using)
        Group.objects.using(self.using).filter(final__in=job_ids).update(final=None)
        Job.objects.using(self.using).filter(pk__in=job_ids)._raw_delete(self.using)

    def _delete_empty(self, group_ids: Collection[int]) -> int:
        """Delete those of these groups that have no jobs; return how many."""
        if not group_ids:
            return 0
        skip = connections[self.using].features.has_select_for_update_skip_locked
        with self.write():
            # Locked before their jobs are looked at, as in `wake`.
            groups = Group.objects.using(self.using).filter(pk__in=group_ids)
            locked = set(groups.select_for_update(skip_locked=skip).values_list("pk", flat=True))
            locked -= set(self._of_groups(locked).order_by().values_list("group", flat=True).distinct())
            return int(groups.filter(pk__in=locked)._raw_delete(self.using)) if locked else 0

    def _finished(self) -> models.QuerySet[Job]:
        return Job.objects.using(self.using).filter(state__in=FINISHED_STATES)  # type: ignore[no-any-return]

    def _of_groups(self, group_ids: Collection[int]) -> models.QuerySet[Job]:
        return Job.objects.using(self.using).filter(group__in=group_ids)  # type: ignore[no-any-return]
