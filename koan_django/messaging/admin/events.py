"""What happened to each message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import RecordAdmin, Styled, badge
from koan_django.messaging.models import MessageEvent

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

_COLOURS = {"duplicate": "unknown", "postponed": "retried", "parked": "failed", "cancelled": "unknown"}


@admin.register(MessageEvent)
class MessageEventAdmin(Styled, RecordAdmin[MessageEvent]):
    list_display = ("at", "shown_kind", "alias", "group", "attempt", "duration_ms", "process", "trail")
    list_filter = ("kind", "bus", "group", "alias")
    search_fields = ("message_id", "correlation_id", "alias")
    date_hierarchy = "at"
    fields = (
        ("at", "shown_kind"),
        ("alias", "message_id"),
        ("bus", "group", "handler"),
        ("attempt", "duration_ms", "process"),
        ("trail", "causation_id", "tenant"),
        "detail",
    )
    readonly_fields = ("shown_kind", "trail")

    @admin.display(description=_("kind"), ordering="kind")
    def shown_kind(self, row: MessageEvent) -> SafeString:
        return badge(_COLOURS.get(row.kind, row.kind), row.get_kind_display())
