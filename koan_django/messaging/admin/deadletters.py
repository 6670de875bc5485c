"""Dead letters: read, replay, discard, correct and send again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.guidance import Guided
from koan_django.core.admin.kit import badge, brief, operation
from koan_django.core.redaction import redact_text
from koan_django.messaging.dead import deadletters
from koan_django.messaging.dead.editing import editable, edited
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.models import DeadLetter

from .envelopes import ENVELOPE_FIELDS, SHOWN, EnvelopeAdmin

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern
    from django.utils.safestring import SafeString

_COLOURS = {"dead": "dead", "replayed": "handled", "discarded": "unknown"}


@admin.register(DeadLetter)
class DeadLetterAdmin(Guided, EnvelopeAdmin):
    error_column = "error"
    list_display = ("message_id", "alias", "group", "reason", "shown_error", "attempt", "shown_state", "dead_at")
    list_filter = ("state", "reason", "group", "alias", "error_type")
    search_fields = ("message_id", "alias", "correlation_id", "fingerprint", "error")
    date_hierarchy = "dead_at"
    fields = (
        ("shown_state", "reason", "dead_at"),
        ("handler", "error_type"),
        "error",
        "guidance",
        "shown_traceback",
        ("fingerprint", "same_cause", "tenant"),
        "resend",
        ("replays", "replayed_at"),
        *ENVELOPE_FIELDS,
    )
    readonly_fields = (*SHOWN, "shown_state", "guidance", "shown_traceback", "same_cause", "resend")
    actions = ("replay", "replay_forgotten", "discard")

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, dead: DeadLetter) -> SafeString:
        return badge(_COLOURS[dead.state], dead.get_state_display())

    @admin.display(description=_("error"), ordering="error")
    def shown_error(self, dead: DeadLetter) -> str:
        return brief(dead.error)

    @admin.display(description=_("traceback"))
    def shown_traceback(self, dead: DeadLetter) -> SafeString:
        return format_html('<pre class="koan-json">{}</pre>', dead.traceback)

    @admin.display(description=_("same cause"))
    def same_cause(self, dead: DeadLetter) -> SafeString:
        """A link to all that died of the same."""
        url = reverse("admin:koan_messaging_deadletter_changelist")
        count = DeadLetter.objects.dead().filter(fingerprint=dead.fingerprint).count()
        address = f"{url}?fingerprint__exact={dead.fingerprint}&state__exact=dead"
        return format_html('<a href="{}">{} {}</a>', address, count, _("dead now"))

    @admin.display(description=_("correct it"))
    def resend(self, dead: DeadLetter) -> SafeString | str:
        """A link to the page where it is sent again with another body."""
        if dead.state != DeadLetter.State.DEAD:
            return "-"
        url = reverse("admin:koan_messaging_deadletter_resend", args=[dead.pk])
        return format_html('<a href="{}">{}</a>', url, _("edit the body and send it again"))

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.resend_view)
        return [path("<int:pk>/resend/", page, name="koan_messaging_deadletter_resend"), *super().get_urls()]

    def resend_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the body, sensitive fields masked, and send what comes back."""
        dead = get_object_or_404(DeadLetter.objects.dead(), pk=pk)
        if not (self.has_view_permission(request, dead) and self._has("replay_deadletter", request)):
            raise PermissionDenied
        text, error = request.POST.get("body"), ""
        try:
            if request.method == "POST" and text is not None:
                return self._resent(request, dead, text)
            text = editable(dead)
        except MessagingError as refusal:
            error = redact_text(str(refusal))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Edit and send again"),
            "opts": self.opts,
            "object": dead,
            "body": text or "",
            "error": error,
        }
        return TemplateResponse(request, "admin/koan_messaging/resend.html", context)

    def _resent(self, request: HttpRequest, dead: DeadLetter, text: str) -> HttpResponse:
        receipt = deadletters.replay(dead, body=edited(dead, text))
        self.log_change(request, dead, f"sent again as {receipt.id} with another body", action="resend")
        self.message_user(request, _("The message was sent again."), messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:koan_messaging_deadletter_change", args=[dead.pk]))

    @operation(permission="replay", description=_("Replay selected dead letters"))
    def replay(self, request: HttpRequest, dead: DeadLetter) -> str:
        """Send it to its group again, with the same id."""
        receipt = deadletters.replay(dead)
        return f"replayed as {receipt.id}"

    @operation(permission="replay", description=_("Replay, though the inbox has forgotten"), destructive=True)
    def replay_forgotten(self, request: HttpRequest, dead: DeadLetter) -> str:
        """The same for one that is older than what the inbox remembers: handled meanwhile, it is handled twice."""
        receipt = deadletters.replay(dead, forgotten=True)
        return f"replayed as {receipt.id}, forgotten by the inbox"

    @operation(permission="discard", description=_("Discard selected dead letters"), destructive=True)
    def discard(self, request: HttpRequest, dead: DeadLetter) -> str:
        """Give it up."""
        deadletters.discard(dead)
        return "discarded"
