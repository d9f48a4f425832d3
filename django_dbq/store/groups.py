"""Groups: the final job of one is due once the others have ended. Rare, and the same for every database."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import connections, models

from django_dbq.engine.lifecycle import State
from django_dbq.models import Group, Job
from django_dbq.models.group import UNENDED_STATES, UNTOUCHED_STATES
from django_dbq.store.part import Part

WAKE_BATCH = 1_000


class Groups(Part):
    """Makes final jobs wait, and wakes them."""

    def wait_for_group(self, job: Job, group: Group) -> bool:
        """Make a job WAITING, as the final one of a group; tell whether it had not begun.

        It is due once `wake` finds the group's other jobs complete or cancelled.
        """
        untouched = Job.objects.using(self.using).filter(pk=job.pk, state__in=UNTOUCHED_STATES)
        return bool(untouched.update(state=State.WAITING, group=group, modified=self.clock()))

    def wake(self, group_ids: Collection[Any] | None = None) -> int:
        """Make final jobs due whose group's other jobs are complete or cancelled; return how many.

        `group_ids` are the groups to look at; None: all.
        """
        jobs, groups = Job.objects.using(self.using), Group.objects.using(self.using)
        unended = jobs.filter(group=models.OuterRef("pk"), state__in=UNENDED_STATES)
        others = unended.exclude(pk=models.OuterRef("final"))
        done = groups.filter(~models.Exists(others), final__state=State.WAITING).order_by()
        looked_at = done if group_ids is None else done.filter(pk__in=group_ids)
        # Without a lock at first: nothing is locked that does not look done.
        found = list(looked_at.values_list("pk", flat=True)[:WAKE_BATCH])
        if not found:
            return 0
        skip = connections[self.using].features.has_select_for_update_skip_locked
        with self.write():
            # Locked, and looked at again: who adds a job to a group locks it too. Nothing here
            # waits for a lock, so whoever holds one and waits for another is safe from this.
            rows = groups.filter(pk__in=found).order_by("pk").select_for_update(skip_locked=skip)
            locked = list(rows.values_list("pk", flat=True))
            finals = list(done.filter(pk__in=locked).values_list("final", flat=True))
            waiting = jobs.filter(pk__in=finals, state=State.WAITING).order_by("pk")
            ready = dict(waiting.select_for_update(skip_locked=skip).values_list("pk", "queue_name"))
            jobs.filter(pk__in=ready).update(state=State.READY, modified=self.clock())
            if ready:
                self.announce(set(ready.values()))
            return len(ready)
