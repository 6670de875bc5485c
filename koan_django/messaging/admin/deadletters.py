"""Dead letters: read, replay, discard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import badge, operation
from koan_django.messaging import deadletters
from koan_django.messaging.models import DeadLetter

from .envelopes import ENVELOPE_FIELDS, SHOWN, EnvelopeAdmin

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

_COLOURS = {"dead": "dead", "replayed": "handled", "discarded": "unknown"}


@admin.register(DeadLetter)
class DeadLetterAdmin(EnvelopeAdmin):
    list_display = ("message_id", "alias", "group", "reason", "error", "attempt", "shown_state", "dead_at")
    list_filter = ("state", "reason", "group", "alias", "error_type")
    search_fields = ("message_id", "alias", "correlation_id", "fingerprint", "error")
    date_hierarchy = "dead_at"
    fields = (
        ("shown_state", "reason", "dead_at"),
        ("handler", "error_type"),
        "error",
        "shown_traceback",
        ("fingerprint", "tenant"),
        ("replays", "replayed_at"),
        *ENVELOPE_FIELDS,
    )
    readonly_fields = (*SHOWN, "shown_state", "shown_traceback")
    actions = ("replay", "discard")

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, dead: DeadLetter) -> SafeString:
        return badge(_COLOURS[dead.state], dead.get_state_display())

    @admin.display(description=_("traceback"))
    def shown_traceback(self, dead: DeadLetter) -> SafeString:
        return format_html('<pre class="koan-json">{}</pre>', dead.traceback)

    @operation(permission="replay", description=_("Replay selected dead letters"))
    def replay(self, request: HttpRequest, dead: DeadLetter) -> str:
        """Send it to its group again, with the same id."""
        receipt = deadletters.replay(dead)
        return f"replayed as {receipt.id}"

    @operation(permission="discard", description=_("Discard selected dead letters"), destructive=True)
    def discard(self, request: HttpRequest, dead: DeadLetter) -> str:
        """Give it up."""
        deadletters.discard(dead)
        return "discarded"
