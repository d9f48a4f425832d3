"""What the pages of this package have in common."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest


class Page(admin.ModelAdmin):  # type: ignore[type-arg]
    """A page whose list is filtered by its own filters, and by nothing else."""

    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    linked: ClassVar[Collection[str]] = ()  # What links of the admin filter by, besides the filters.

    class Media:
        css: ClassVar = {"all": ["django_dbq/admin.css"]}

    def filters(self, request: HttpRequest) -> set[str]:
        """Return the parameters that the list may be filtered by."""
        given: Any = self.get_list_filter(request)
        names = {f"{each}__exact" if isinstance(each, str) else each.parameter_name for each in given}
        return names.union(self.linked)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Django allows any lookup in a column of the model. By ?workspace__password__startswith=h those
        # who may only view would learn, letter by letter, what the pages mask, each time from every row.
        return lookup in self.filters(request)
