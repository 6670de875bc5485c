"""Profiles: what the settings say, and the policy that people set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import KoanAdmin, Styled, badge
from koan_django.storage.exceptions import StorageError
from koan_django.storage.models import StorageProfile, Tombstone
from koan_django.storage.panels import status
from koan_django.storage.profile import profiles

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

_SETTINGS = ("name", "alias", "container", "backend", "driver", "is_default", "synced_at")
_STATE = ("shown_status", "shown_capabilities", "shown_waiting")


@admin.register(StorageProfile)
class StorageProfileAdmin(Styled, KoanAdmin[StorageProfile]):
    """Policy is edited here; rows come from the settings, so nobody adds or deletes them."""

    list_display = ("name", "shown_status", "alias", "container", "enabled", "read_only", "is_default", "note")
    list_filter = ("enabled", "read_only", "is_configured")
    search_fields = ("name", "alias", "container")
    readonly_fields = (*_SETTINGS, *_STATE)
    fieldsets = (
        (None, {"fields": ("enabled", "read_only", "note")}),
        (_("State"), {"fields": _STATE}),
        (_("From the settings"), {"fields": _SETTINGS}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: StorageProfile | None = None) -> bool:
        return False

    @admin.display(description=_("status"))
    def shown_status(self, row: StorageProfile) -> SafeString:
        if not row.is_configured:
            return badge("unknown", str(_("missing in the settings")))
        label = _("read-only") if row.read_only else _("ready") if row.enabled else _("disabled")
        return badge(status(row), str(label))

    @admin.display(description=_("capabilities"))
    def shown_capabilities(self, row: StorageProfile) -> str:
        try:
            return ", ".join(sorted(profiles[row.name].capabilities))
        except StorageError as error:
            return str(error)

    @admin.display(description=_("objects to remove"))
    def shown_waiting(self, row: StorageProfile) -> SafeString:
        url = reverse("admin:koan_storage_tombstone_changelist")
        count = Tombstone.objects.filter(profile=row.name).count()
        return format_html('<a href="{}?profile__exact={}">{}</a>', url, row.name, count)
