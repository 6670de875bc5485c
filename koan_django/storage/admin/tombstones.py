"""Objects that wait to be removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.guidance import Guided
from koan_django.core.admin.kit import RecordAdmin, operation
from koan_django.storage import deletion
from koan_django.storage.models import Tombstone

if TYPE_CHECKING:
    from django.http import HttpRequest


@admin.register(Tombstone)
class TombstoneAdmin(Guided, RecordAdmin[Tombstone]):
    list_display = ("key", "profile", "origin", "size", "created_at", "attempts", "not_before", "last_error")
    list_filter = ("profile", "origin")
    search_fields = ("key", "sha256", "correlation_id")
    date_hierarchy = "created_at"
    fields = (*list_display, "guidance", "sha256", "trail")
    readonly_fields = ("trail", "guidance")
    actions = ("purge",)

    @operation(permission="purge", description=_("Remove selected objects now"), destructive=True)
    def purge(self, request: HttpRequest, tombstone: Tombstone) -> str:
        deletion.purge_now(tombstone)
        return f"removed {tombstone}"
