"""The Overview page: what every app says about itself, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from koan_django.core import health
from koan_django.core.models import Overview
from koan_django.core.overview import Line, panel, panels
from koan_django.core.redaction import redact
from koan_django.core.stores import health_store, lease_store
from koan_django.core.stores.rows import Rows

from .kit import RecordAdmin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest


@admin.register(Overview)
class OverviewAdmin(RecordAdmin[Overview]):
    """Shows the panels where another model would list its rows."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": _("Overview"),
            "opts": self.opts,
            "status": health.aggregate().status,
            "panels": [
                {"title": each.title, "lines": _lines(each.lines)} for each in sorted(panels, key=lambda p: p.order)
            ],
        }
        return TemplateResponse(request, "admin/koan_core/overview.html", context)


@panel("koan_core.health", "Health", order=0)
def health_panel() -> Iterator[Line]:
    """The facts of all processes."""
    url = reverse("admin:koan_core_healthfact_changelist") if isinstance(health_store(), Rows) else ""
    for found in health.aggregate().findings:
        yield Line(found.name, found.message, found.status, f"{url}?q={found.name}" if url else "")


@panel("koan_core.leases", "Leases", order=5)
def leases_panel() -> Iterator[Line]:
    """The named leases that somebody holds."""
    url = reverse("admin:koan_core_lease_changelist") if isinstance(lease_store(), Rows) else ""
    for lease in lease_store().leases():
        if lease.until is not None:
            text = _("%(owner)s until %(until)s") % {"owner": lease.owner, "until": f"{lease.until:%H:%M:%S}"}
            yield Line(lease.name, text, url=f"{url}?q={lease.name}" if url else "")


def _lines(build: Any) -> list[Line]:
    """A panel that fails says so, and leaves the others alone."""
    try:
        return list(build())
    except Exception as error:  # one broken panel must not hide the rest
        return [Line(type(error).__name__, str(redact(str(error))), "unhealthy")]
