"""Handlers: what each of them did, and the switch that keeps messages from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import RecordAdmin, Styled, badge, brief, operation
from koan_django.messaging.control import pausing
from koan_django.messaging.control.standing import Standing, is_gone, standings
from koan_django.messaging.models import RegisteredHandler

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
    from django.db.models import Model
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

COUNTERS = ("handled", "retried", "dead", "duplicates")
COLOURS = {"running": "healthy", "paused": "degraded", "open": "unhealthy", "half-open": "degraded"}


class ReasonForm(ActionForm):
    """Asks why, beside the choice of an action."""

    reason = forms.CharField(label=_("Reason:"), required=False, max_length=500)


@admin.register(RegisteredHandler)
class RegisteredHandlerAdmin(Styled, RecordAdmin[RegisteredHandler]):
    """Rows are written by workers. What code declares no more may be deleted."""

    action_form = ReasonForm
    list_display = (
        "name",
        "shown_state",
        "bus",
        "group",
        "handled",
        "retried",
        "dead",
        "mean",
        "shown_error",
        "last_handled_at",
    )
    list_filter = ("paused", "bus", "group")
    search_fields = ("name", "binding", "origin")
    fields = (
        ("shown_state", "why"),
        ("bus", "group", "binding"),
        "origin",
        COUNTERS,
        ("mean", "longest"),
        ("last_handled_at", "last_error_at"),
        "last_error",
        ("breaker", "dead_letters"),
        ("paused_by", "paused_at", "pause_reason"),
        ("first_seen", "last_seen"),
    )
    readonly_fields = ("shown_state", "why", "mean", "longest", "breaker", "dead_letters")
    actions = ("pause", "resume")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        allowed = self._has("delete_registeredhandler", request)
        return allowed and (not isinstance(obj, RegisteredHandler) or is_gone(obj))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        page = super().get_changelist_instance(request)
        for each in standings(page.result_list):  # for all rows at once
            _keep(each)
        return page

    @admin.display(description=_("state"))
    def shown_state(self, row: RegisteredHandler) -> SafeString:
        state = _standing(row).state
        return badge(COLOURS.get(state, "unknown"), state)

    @admin.display(description=_("why"))
    def why(self, row: RegisteredHandler) -> str:
        return _standing(row).why or "-"

    @admin.display(description=_("mean (ms)"))
    def mean(self, row: RegisteredHandler) -> str:
        return "-" if row.mean_ms is None else f"{row.mean_ms:.1f}"

    @admin.display(description=_("last error"), ordering="last_error_at")
    def shown_error(self, row: RegisteredHandler) -> str:
        return brief(row.last_error)

    @admin.display(description=_("longest (ms)"))
    def longest(self, row: RegisteredHandler) -> str:
        return f"{row.worst_ms:.1f}"

    @admin.display(description=_("circuit breaker"))
    def breaker(self, row: RegisteredHandler) -> SafeString | str:
        """A link to its breaker."""
        name = _standing(row).breaker
        if not name:
            return "-"
        return format_html('<a href="{}?q={}">{}</a>', reverse("admin:koan_core_breaker_changelist"), name, name)

    @admin.display(description=_("dead letters"))
    def dead_letters(self, row: RegisteredHandler) -> SafeString:
        """A link to those of its group."""
        url = reverse("admin:koan_messaging_deadletter_changelist")
        return format_html('<a href="{}?state__exact=dead&group={}">{}</a>', url, row.group, _("of its group"))

    @operation(permission="pause", description=_("Pause selected handlers"))
    def pause(self, request: HttpRequest, row: RegisteredHandler) -> str:
        """Hand nothing more to it."""
        reason = str(request.POST.get("reason", ""))
        pausing.pause(row.name, reason)
        return f"paused: {reason}" if reason else "paused"

    @operation(permission="pause", description=_("Resume selected handlers"))
    def resume(self, request: HttpRequest, row: RegisteredHandler) -> str:
        """Let it work again."""
        pausing.resume(row.name)
        return "resumed"


def _standing(row: Any) -> Standing:
    """How ``row`` stands, found out once for each page."""
    found: Standing | None = getattr(row, "_koan_standing", None)
    if found is None:
        [found] = standings([row])
        _keep(found)
    return found


def _keep(found: Standing) -> None:
    row: Any = found.row
    row._koan_standing = found
