"""The outboxes of further databases in the admin: one at a time, chosen beside the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from koan_django.messaging.outgoing import databases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest

PARAMETER = "database"


class DatabaseFilter(admin.SimpleListFilter):
    """Offers the databases that have an outbox, where there are several."""

    title = _("database")
    parameter_name = PARAMETER

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        every = databases.every()
        return [(alias, alias) for alias in every] if len(every) > 1 else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """It is of that database already, as on the page of one row."""
        return queryset


class OfDatabase:
    """Mix-in of a ModelAdmin whose rows are in the database that the list was filtered by."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows of the chosen database: of the list, or of the page that it led to."""
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]  # of the ModelAdmin
        of_list = QueryDict(request.GET.get("_changelist_filters", ""))
        chosen = request.GET.get(PARAMETER) or of_list.get(PARAMETER)
        return rows.using(chosen if chosen in databases.every() else databases.main())
