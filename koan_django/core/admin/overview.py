"""The Overview page: what every app says about itself, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from koan_django.core import health
from koan_django.core.models import Overview
from koan_django.core.overview import Line, panel, panels
from koan_django.core.redaction import redact

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
    from django.urls import reverse

    url = reverse("admin:koan_core_healthfact_changelist")
    for found in health.aggregate().findings:
        yield Line(found.name, found.message, found.status, f"{url}?q={found.name}")


def _lines(build: Any) -> list[Line]:
    """A panel that fails says so, and leaves the others alone."""
    try:
        return list(build())
    except Exception as error:  # one broken panel must not hide the rest
        return [Line(type(error).__name__, str(redact(str(error))), "unhealthy")]
