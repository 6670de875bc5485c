"""Circuit breakers: how they are, and two operations for when somebody knows better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.utils.translation import gettext_lazy as _

from koan_django.core import breaker
from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.models import Breaker
from koan_django.core.redaction import redact_text
from koan_django.core.stores import breaker_store
from koan_django.core.stores.breakers import RowBreakers
from koan_django.core.stores.rows import RowOptions

from .kit import RecordAdmin, Styled, badge, operation

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

_STATUS = {"closed": "healthy", "half-open": "degraded", "open": "unhealthy"}


@admin.register(Breaker)
class BreakerAdmin(Styled, RecordAdmin[Breaker]):
    """Rows show what the store of breakers holds, and every breaker that this process declares."""

    list_display = ("name", "shown_state", "forced", "openings", "until", "reason", "changed_at")
    list_filter = ("state", "forced")
    search_fields = ("name", "reason")
    fields = (*list_display, "failures", "probes")
    readonly_fields = ("shown_state",)
    actions = ("trip", "reset")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        try:
            show_all()
        except StoreUnavailableError as error:
            self.message_user(request, redact_text(str(error)), messages.ERROR)
        return super().changelist_view(request, extra_context)

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, row: Breaker) -> SafeString:
        return badge(_STATUS[row.state], row.get_state_display())

    @operation(permission="trip", description=_("Open selected circuit breakers"))
    def trip(self, request: HttpRequest, row: Breaker) -> str:
        breaker.trip(row.name, f"opened by {request.user}")
        return "opened"

    @operation(permission="reset", description=_("Close selected circuit breakers"))
    def reset(self, request: HttpRequest, row: Breaker) -> str:
        breaker.reset(row.name)
        return "closed"


def show_all() -> None:
    """Bring the rows up to date where they only show what another store holds."""
    rows = RowBreakers(RowOptions())
    store = breaker_store()
    if not isinstance(store, RowBreakers):
        rows.mirror(store.circuits())
    rows.declare(breaker.breakers.names())
