"""The Traffic page: charts of what each group does, and the numbers behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from koan_django.core.admin.charts import Series, chart, legend
from koan_django.core.admin.kit import RecordAdmin
from koan_django.messaging.models import DepthSample, HandlerSample, Traffic
from koan_django.messaging.statistics.traffic import GroupTraffic, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest
    from django.utils.safestring import SafeString

#: The times that can be chosen, in hours.
SPANS = (1, 6, 24)


@admin.register(HandlerSample)
class HandlerSampleAdmin(RecordAdmin[HandlerSample]):
    list_display = ("minute", "bus", "group", "handler", "handled", "retried", "dead", "duplicates")
    list_filter = ("bus", "group")
    search_fields = ("handler",)
    date_hierarchy = "minute"


@admin.register(DepthSample)
class DepthSampleAdmin(RecordAdmin[DepthSample]):
    list_display = ("at", "bus", "group", "waiting", "in_progress")
    list_filter = ("bus", "group")
    date_hierarchy = "at"


@admin.register(Traffic)
class TrafficAdmin(RecordAdmin[Traffic]):
    """Draws charts where another model would list its rows."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET.get("hours", "")
        hours = int(asked) if asked in map(str, SPANS) else SPANS[0]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Traffic"),
            "opts": self.opts,
            "spans": SPANS,
            "hours": hours,
            "groups": [(each, list(_charts(each))) for each in traffic(hours)],
        }
        return TemplateResponse(request, "admin/koan_messaging/traffic.html", context)


def _charts(group: GroupTraffic) -> Iterator[tuple[str, SafeString, SafeString]]:
    """Yield title, picture and legend."""
    drawn = [
        (_("Throughput"), "/s", [Series(_("handled"), group.handled), Series(_("failed"), group.failed)]),
        (_("Latency"), "ms", [Series(_("median"), group.median), Series(_("99th percentile"), group.slowest)]),
        (_("Depth"), "", [Series(_("waiting"), group.waiting), Series(_("in progress"), group.in_progress)]),
    ]
    for title, unit, series in drawn:
        name = f"{title}, {group.bus} {group.group}"
        yield title, chart(name, series, start=group.start, end=group.end, unit=unit), legend(series, unit)
