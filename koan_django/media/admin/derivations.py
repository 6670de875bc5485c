"""Derivations: a record, and one thing to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.guidance import Guided
from koan_django.core.admin.kit import RecordAdmin, Styled, badge, operation
from koan_django.media import requesting
from koan_django.media.models import Derivation

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

_COLOURS = {"pending": "unknown", "rendering": "degraded", "ready": "healthy", "failed": "unhealthy"}


@admin.register(Derivation)
class DerivationAdmin(Guided, Styled, RecordAdmin[Derivation]):
    error_column = "reason"
    list_display = (
        "recipe",
        "version",
        "shown_state",
        "shown_source",
        "attempts",
        "stage",
        "duration_ms",
        "size",
        "queued_at",
    )
    list_filter = ("state", "recipe", "stage", "asset")
    search_fields = ("source_pk", "key", "correlation_id", "reason")
    date_hierarchy = "queued_at"
    fieldsets = (
        (None, {"fields": ("recipe", "version", "shown_state", "shown_source", "shown_variant", "trail")}),
        (_("Result"), {"fields": ("size", "width", "height", "key")}),
        (
            _("Attempts"),
            {"fields": ("attempts", "not_before", "stage", "reason", "guidance", "lease_owner", "lease_until")},
        ),
        (_("Time"), {"fields": ("queued_at", "started_at", "finished_at", "duration_ms")}),
    )
    readonly_fields = (
        "trail",
        "guidance",
        "shown_state",
        "shown_source",
        "shown_variant",
        "lease_owner",
        "lease_until",
    )
    actions = ("reprocess",)

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, record: Derivation) -> SafeString:
        return badge(_COLOURS.get(record.state, "unknown"), record.get_state_display())

    @admin.display(description=_("source"), ordering="source_pk")
    def shown_source(self, record: Derivation) -> SafeString | str:
        return _link(record.asset, record.source_pk)

    @admin.display(description=_("variant"))
    def shown_variant(self, record: Derivation) -> SafeString | str:
        return _link(record.asset, record.output_pk) if record.output_pk else "-"

    @operation(permission="reprocess", description=_("Render selected derivations again"), destructive=True)
    def reprocess(self, request: HttpRequest, record: Derivation) -> str:
        requesting.again(record)
        return "asked for again"


def _link(label: str, pk: str) -> SafeString | str:
    """Link to the row where the project has an admin for its model."""
    try:
        url = reverse(f"admin:{label.replace('.', '_')}_change", args=[pk])
    except NoReverseMatch:
        return f"{label} {pk}"
    return format_html('<a href="{}">{} {}</a>', url, label, pk)
