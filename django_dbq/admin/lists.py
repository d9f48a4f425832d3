"""What keeps a list of a million jobs quick: bounded counts, bounded looking, bounded choices."""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from operator import itemgetter
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import connections, models
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from django_dbq import conf
from django_dbq.engine.lifecycle import DUE_STATES, FINISHED_STATES, HELD_STATES, State
from django_dbq.engine.workspace import storable
from django_dbq.models import Group, Job, PausedQueue

COUNT_MAX = 10_000  # What is counted, and paged through: more is told roughly.
FEW = 1_000  # What is put in order by us.
SCAN_MAX = 100_000  # The newest jobs, among which is looked for what no index finds.
RECENT = 1_000  # Those that names and queues to choose from are taken of.
GROUPS = 20
HEX_PREFIX = re.compile(r"[0-9a-f-]{8,36}", re.IGNORECASE)
UNNOTED = "unnoted"

# Conditions as the partial indexes have them: with less, a state is found by reading every row.
OF_STATE = {
    **{state: models.Q(state=state) for state in (*DUE_STATES, State.WAITING)},
    **{state: models.Q(state=state, lease_until__isnull=False) for state in HELD_STATES},
    **{state: models.Q(state=state, finished__isnull=False) for state in FINISHED_STATES},
}
QUEUED = (
    models.Q(state__in=DUE_STATES)
    | models.Q(state=State.WAITING)
    | models.Q(state__in=HELD_STATES, lease_until__isnull=False)
)
# Rows of the original package, which has neither leases nor times of the end.
OF_THE_ORIGINAL = models.Q(state__in=HELD_STATES, lease_until__isnull=True) | models.Q(
    state__in=FINISHED_STATES, finished__isnull=True
)


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to COUNT_MAX rows, and asks `estimate` for the number where there are more."""

    rough = False  # Whether the number is an estimate, or that there are more.
    estimate: Callable[[], int] | None = None
    near = False  # Whether they are among the newest SCAN_MAX.

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        found: int = rows.order_by()[: COUNT_MAX + 1].count()
        if found <= COUNT_MAX:
            return found
        self.rough = True
        return max(COUNT_MAX, self.estimate()) if self.estimate else COUNT_MAX

    def page(self, number: Any) -> Any:
        if self.count > FEW:
            return self._page_of_many(number)
        # What is few is put in order here. Asked for it in order, a database may read a million other
        # rows, expecting to meet enough of these soon.
        number = self.validate_number(number)
        rows: Any = self.object_list
        order = [str(name) for name in rows.query.order_by]
        keys = list(rows.order_by().values_list("pk", *(name.lstrip("-") for name in order))[:FEW])
        for index in range(len(order), 0, -1):
            keys.sort(key=itemgetter(index), reverse=order[index - 1].startswith("-"))
        shown = keys[(number - 1) * self.per_page : number * self.per_page]
        names, _ = rows.query.deferred_loading
        found = rows.model._default_manager.using(rows.db).filter(pk__in=[key[0] for key in shown])
        return self._get_page(found.defer(*names).order_by(*order), number, self)  # type: ignore[attr-defined]

    def _page_of_many(self, number: Any) -> Any:
        """Return a page of many jobs; when all of them are old, without reading every newer job first."""
        rows: Any = self.object_list
        first, *others = [str(name) for name in rows.query.order_by]
        if self.near or not rows.query.where or first.lstrip("-") != "created":
            return super().page(number)
        end = next(iter(_newest_or_oldest(first)[SCAN_MAX : SCAN_MAX + 1]), None)
        if end is None:
            return super().page(number)
        number = self.validate_number(number)
        shown = slice((number - 1) * self.per_page, number * self.per_page)
        near = rows.filter(**{"created__gt" if first.startswith("-") else "created__lt": end})
        found = list(near[shown])
        if len(found) < self.per_page:
            known = not self.rough or self.estimate
            many = self.count if known else rows.order_by()[: SCAN_MAX + 1].count()
            if many > SCAN_MAX:
                return super().page(number)
            # As an expression: there is no index that it could be read in the order of.
            created = Coalesce("created", "created")
            found = list(rows.order_by(created.desc() if first.startswith("-") else created, *others)[shown])
        return self._get_page(found, number, self)  # type: ignore[attr-defined]

    @cached_property
    def num_pages(self) -> int:
        # A page far down is found by reading all before it.
        return min(super().num_pages, COUNT_MAX // self.per_page)


class BoundedChangeList(ChangeList):
    """Says of its list how much of it is told."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.rough = getattr(self.paginator, "rough", False)
        self.listed_max = f"{COUNT_MAX:,}"
        self.looked_since = getattr(request, "_dbq_since", None)
        self.looked_max = f"{SCAN_MAX:,}"


def among_newest(request: HttpRequest, jobs: models.QuerySet[Job]) -> models.QuerySet[Job]:
    """Return the jobs that are among the newest SCAN_MAX."""
    if not hasattr(request, "_dbq_since"):
        newest = _newest_or_oldest("-created")
        request._dbq_since = next(iter(newest[SCAN_MAX : SCAN_MAX + 1]), None)  # type: ignore[attr-defined]
    since = request._dbq_since  # type: ignore[attr-defined]
    return jobs if since is None else jobs.filter(created__gt=since)


def _newest_or_oldest(order: str) -> models.QuerySet[Job, Any]:
    return Job.objects.order_by(order).values_list("created", flat=True)  # type: ignore[no-any-return]


def search(request: HttpRequest, jobs: models.QuerySet[Job], term: str) -> models.QuerySet[Job]:
    """Return the jobs of an id or its first digits, of a title, label or group, or of a name's beginning."""
    term = term.strip()
    if not storable(term):
        return jobs.none()
    if HEX_PREFIX.fullmatch(term) and len(digits := term.replace("-", "").lower()) >= 8:
        found = jobs.filter(_of_id(digits, connections[jobs.db].vendor))
        if len(digits) == 32 or found.exists():
            return found
    groups = Group.objects.filter(reference=term).order_by("-pk").values_list("pk", flat=True)
    ways = [models.Q(title=term), models.Q(label=term), models.Q(group__in=list(groups[:GROUPS]))]
    for way in ways:  # One after the other: each has an index of its own.
        if Job.objects.filter(way).exists():
            return jobs.filter(way)
    return among_newest(request, jobs).filter(name__startswith=term)


def _of_id(digits: str, vendor: str) -> models.Q:
    if len(digits) == 32:
        return models.Q(pk=uuid.UUID(digits))
    # MariaDB orders UUIDs of other versions by other bytes: there, those of this package are found.
    least, most = (
        ("0" * 12 + "7" + "0" * 19, "f" * 12 + "7" + "f" * 19) if vendor == "mysql" else ("0" * 32, "f" * 32)
    )
    bounds = [uuid.UUID(digits + rest[len(digits) :]) for rest in (least, most)]
    return models.Q(pk__range=bounds)


class StateFilter(admin.SimpleListFilter):
    """The states, as they are told apart by an index."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        states = getattr(model_admin, "states", None) or list(State)
        return [*((str(state), str(state)) for state in states), (UNNOTED, "held or ended by version 3")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> models.QuerySet[Job]:
        value = self.value()
        if value == UNNOTED:
            return queryset.filter(OF_THE_ORIGINAL)
        return queryset.filter(OF_STATE[State(value)]) if value in list(State) else queryset


class _OneOfMany(admin.SimpleListFilter, ABC):
    """A column of no index, and values of it from JOBS and the newest jobs."""

    column: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = {*self.declared(), *(row[self.column] for row in recent(request))}
        if value := self.value():
            names.add(value)
        return [(name, name) for name in sorted(names)]

    @abstractmethod
    def declared(self) -> Iterable[str]:
        """Return the values that JOBS, or a row of its own, has."""

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> models.QuerySet[Job]:
        value = self.value()
        if not value:
            return queryset
        if not storable(value):
            return queryset.none()
        return among_newest(request, queryset).filter(**{self.column: value})


class QueueFilter(_OneOfMany):
    title = "queue"
    parameter_name = "queue"
    column = "queue_name"

    def declared(self) -> Iterable[str]:
        queues = {entry.queue_name for entry in conf.workflows().values()}
        return queues | set(PausedQueue.objects.values_list("name", flat=True)[:RECENT])


class NameFilter(_OneOfMany):
    title = "name"
    parameter_name = "name"
    column = "name"

    def declared(self) -> Iterable[str]:
        return conf.workflows()


class GroupFilter(admin.SimpleListFilter):
    """The newest groups, and the one asked for; what is no group's id is a label, as django-q has groups."""

    title = "group"
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        groups, value = list(Group.objects.order_by("-pk")[:GROUPS]), self.value()
        if self._group and self._group not in groups:
            groups.append(self._group)
        found = [(str(group.pk), group.reference) for group in groups]
        return found if self._group or not value else [*found, (value, value)]

    @cached_property
    def _group(self) -> Group | None:
        value = self.value() or ""
        known = value.isdecimal() and len(value) < 19
        return Group.objects.filter(pk=int(value)).first() if known else None

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> models.QuerySet[Job]:
        if self._group:
            return queryset.filter(group=self._group)
        if not (value := self.value()):
            return queryset
        return queryset.filter(label=value) if storable(value) else queryset.none()


class AgeFilter(admin.SimpleListFilter):
    """When a job was created."""

    title = "age"
    parameter_name = "age"
    ages: ClassVar = {
        "hour": ("Past hour", timedelta(hours=1)),
        "day": ("Past day", timedelta(days=1)),
        "week": ("Past 7 days", timedelta(days=7)),
        "month": ("Past 30 days", timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, words) for key, (words, _) in self.ages.items()]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Job]) -> models.QuerySet[Job]:
        if (value := self.value()) in self.ages:
            return queryset.filter(created__gte=timezone.now() - self.ages[value][1])
        return queryset


def recent(request: HttpRequest) -> list[dict[str, str]]:
    """Return queue and name of the newest jobs, read once for a page."""
    if not hasattr(request, "_dbq_recent"):
        newest = Job.objects.order_by("-created").values("queue_name", "name")[:RECENT]
        request._dbq_recent = list(newest)  # type: ignore[attr-defined]
    return request._dbq_recent  # type: ignore[attr-defined,no-any-return]


def note(request: HttpRequest, rows: Collection[models.Model], text: str) -> None:
    """Note in the admin's history what was done to rows."""
    from django.contrib.admin.models import CHANGE, LogEntry  # Which only a project with the admin has.

    user: Any = request.user.pk
    LogEntry.objects.log_actions(user, rows, CHANGE, change_message=text)
