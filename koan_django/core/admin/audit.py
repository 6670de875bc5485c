"""Audit events and their seals, to read and to export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.http import StreamingHttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core import audit
from koan_django.core.audit import exporting
from koan_django.core.models import AuditEvent, AuditSeal

from .kit import RecordAdmin, Styled, pretty_json

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString


class SealedFilter(admin.SimpleListFilter):
    """Events by whether a seal covers them."""

    title = _("sealed")
    parameter_name = "sealed"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, object]]:  # type: ignore[override]  # of any admin
        return [("yes", _("Yes")), ("no", _("No, not yet"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        value = self.value()
        return queryset if value is None else queryset.filter(seal__isnull=value == "no")


@admin.register(AuditEvent)
class AuditEventAdmin(Styled, RecordAdmin[AuditEvent]):
    list_display = ("at", "action", "actor", "object_text", "object_type", "process", "trail")
    list_filter = (SealedFilter,)  # a list of all actions would read the whole table
    list_select_related = ("seal",)
    search_fields = ("action", "actor", "object_id", "object_text", "correlation_id")
    date_hierarchy = "at"
    fields = (
        ("at", "action"),
        ("actor", "actor_reference", "process"),
        ("object_type", "object_id", "object_text"),
        ("trail", "tenant"),
        "shown_data",
        "shown_seal",
    )
    readonly_fields = ("trail", "shown_data", "shown_seal")
    actions = ("export_jsonl", "export_csv")

    @admin.display(description=_("data"))
    def shown_data(self, event: AuditEvent) -> SafeString | str:
        return pretty_json(event.data) if event.data else "-"

    @admin.display(description=_("seal"))
    def shown_seal(self, event: AuditEvent) -> SafeString | str:
        if event.seal is None:
            return _("not sealed yet")  # type: ignore[return-value]  # the admin shows lazy text too
        url = reverse("admin:koan_core_auditseal_change", args=[event.seal.pk])
        return format_html('<a href="{}">{}</a>', url, event.seal)

    @admin.action(permissions=["export"], description=_("Export selected events as JSON lines"))
    def export_jsonl(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> StreamingHttpResponse:
        return _download(queryset, "jsonl")

    @admin.action(permissions=["export"], description=_("Export selected events as CSV"))
    def export_csv(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> StreamingHttpResponse:
        return _download(queryset, "csv")


def _download(queryset: QuerySet[AuditEvent], style: exporting.Style) -> StreamingHttpResponse:
    """Stream the events, oldest first; that somebody took them is an event too."""
    audit.record("audit.export", data={"format": style, "events": queryset.count(), "by": "admin"})
    answer = StreamingHttpResponse(exporting.lines(queryset, style), content_type=exporting.CONTENT_TYPES[style])
    answer["Content-Disposition"] = f'attachment; filename="audit.{style}"'
    return answer


@admin.register(AuditSeal)
class AuditSealAdmin(Styled, RecordAdmin[AuditSeal]):
    list_display = ("number", "count", "first_id", "last_id", "sealed_at", "key_id", "shown_events")
    search_fields = ("=number", "hash")
    date_hierarchy = "sealed_at"
    fields = (
        ("number", "sealed_at", "key_id"),
        ("count", "first_id", "last_id", "shown_events"),
        "digest",
        "previous",
        "hash",
    )
    readonly_fields = ("shown_events",)

    @admin.display(description=_("events"))
    def shown_events(self, seal: AuditSeal) -> SafeString:
        url = reverse("admin:koan_core_auditevent_changelist")
        return format_html('<a href="{}?seal__id__exact={}">{}</a>', url, seal.pk, _("show"))
