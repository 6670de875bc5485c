"""What the screens of stored messages have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import RecordAdmin, Styled, brief, pretty_json
from koan_django.messaging.encoding import readable
from koan_django.messaging.messages import by_alias

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

ENVELOPE_FIELDS = (
    ("bus", "group"),
    ("alias", "version", "attempt"),
    ("message_id", "events"),
    "trail",
    "routing_key",
    "shown_headers",
    "shown_body",
)
SHOWN = ("events", "trail", "shown_headers", "shown_body")


class EnvelopeAdmin(Styled, RecordAdmin[Any]):
    """Shows a message with its sensitive fields masked."""

    search_fields: ClassVar[tuple[str, ...]] = ("message_id", "alias")
    readonly_fields: ClassVar[tuple[str, ...]] = SHOWN

    def correlation_of(self, row: Any) -> str:
        return str(row.envelope().correlation_id)

    @admin.display(description=_("events"))
    def events(self, row: Any) -> SafeString:
        """A link to everything that happened to this message."""
        url = reverse("admin:koan_messaging_messageevent_changelist")
        return format_html('<a href="{}?q={}">{}</a>', url, row.message_id, _("what happened to it"))

    @admin.display(description=_("last error"))
    def shown_error(self, row: Any) -> str:
        return brief(row.last_error)

    @admin.display(description=_("headers"))
    def shown_headers(self, row: Any) -> SafeString:
        return pretty_json(row.headers)

    @admin.display(description=_("body"))
    def shown_body(self, row: Any) -> SafeString:
        return pretty_json(readable(bytes(row.body), by_alias(row.alias)))
