"""What waits: the outbox and the queue of the database bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.figures import Figured, Row
from koan_django.core.admin.guidance import Guided
from koan_django.core.admin.kit import badge, operation
from koan_django.core.functions import Now
from koan_django.messaging import events
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.models import OutboxMessage, QueuedDelivery

from .backlog import standing
from .elsewhere import DatabaseFilter, OfDatabase
from .envelopes import ENVELOPE_FIELDS, SHOWN, EnvelopeAdmin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest
    from django.utils.safestring import SafeString

    from koan_django.messaging.querysets import OutboxQuerySet


def _here(row: OutboxMessage) -> OutboxQuerySet:
    """The row, in the database that it was read from."""
    return OutboxMessage.objects.using(row._state.db).filter(pk=row.pk)


@admin.register(OutboxMessage)
class OutboxMessageAdmin(OfDatabase, Figured, Guided, EnvelopeAdmin):
    list_display = ("message_id", "alias", "bus", "shown_state", "tries", "shown_error", "available_at", "created_at")
    list_filter = ("state", "bus", DatabaseFilter)
    fields = (
        *ENVELOPE_FIELDS,
        ("shown_state", "tries", "last_error"),
        "guidance",
        ("available_at", "created_at", "lane"),
    )
    readonly_fields = (*SHOWN, "shown_state", "guidance")
    actions = ("publish", "discard")

    def figures(self) -> Iterable[Row]:
        return standing()

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, row: OutboxMessage) -> SafeString:
        return badge("failed" if row.state == "parked" else "pending", row.get_state_display())

    @operation(permission="publish", description=_("Publish selected messages now"))
    def publish(self, request: HttpRequest, row: OutboxMessage) -> str:
        """Let the relay try at once, parked ones too."""
        if not _here(row).update(state="pending", available_at=Now()):
            raise MessagingError(f"{row} was published meanwhile")
        return "due now"

    @operation(permission="publish", description=_("Discard selected messages"), destructive=True)
    def discard(self, request: HttpRequest, row: OutboxMessage) -> str:
        """Delete a message that was never published."""
        if not _here(row).delete()[0]:
            raise MessagingError(f"{row} was published meanwhile")
        events.record([events.event("cancelled", row.bus, row.envelope(), detail=f"by {request.user}")])
        return f"discarded {row.message_id}"


@admin.register(QueuedDelivery)
class QueuedDeliveryAdmin(EnvelopeAdmin):
    list_display = ("message_id", "alias", "bus", "group", "attempt", "available_at", "lease_owner", "shown_error")
    list_filter = ("bus", "group")
    fields = (
        *ENVELOPE_FIELDS,
        ("available_at", "created_at"),
        ("lease_owner", "lease_token", "lease_until"),
        "last_error",
    )
