"""The Traffic page: charts of what each group does, and the numbers behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from koan_django.core.admin.charts import Series, chart, legend
from koan_django.core.admin.kit import RecordAdmin, Styled
from koan_django.messaging.models import DepthSample, HandlerSample, Traffic
from koan_django.messaging.statistics.traffic import GroupTraffic, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.http import HttpRequest

#: The times that can be chosen, in hours.
SPANS = (1, 6, 24)


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with what its lines mean; ``note`` says what it cannot show."""

    title: str
    picture: SafeString
    legend: SafeString
    note: str = ""


@admin.register(HandlerSample)
class HandlerSampleAdmin(Styled, RecordAdmin[HandlerSample]):
    list_display = ("minute", "bus", "group", "handler", "handled", "retried", "dead", "duplicates")
    list_filter = ("bus", "group")
    search_fields = ("handler",)
    date_hierarchy = "minute"


@admin.register(DepthSample)
class DepthSampleAdmin(Styled, RecordAdmin[DepthSample]):
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


def _charts(group: GroupTraffic) -> Iterator[Chart]:
    depth = [Series(_("waiting"), group.waiting), Series(_("in progress"), group.in_progress)]
    note = ""
    if _is_silent(group.in_progress) and not _is_silent(group.waiting):
        depth.pop()
        note = _("This bus tells what waits, not what is in progress.")
    yield _chart(group, _("Throughput"), [Series(_("handled"), group.handled), Series(_("failed"), group.failed)], "/s")
    latencies = [Series(_("median"), group.median), Series(_("99th percentile"), group.slowest)]
    yield _chart(group, _("Latency"), latencies, "ms")
    yield _chart(group, _("Depth"), depth, note=note)


def _chart(group: GroupTraffic, title: str, series: list[Series], unit: str = "", note: str = "") -> Chart:
    name = f"{title}, {group.bus} {group.group}"
    picture = chart(name, series, start=group.start, end=group.end, unit=unit)
    return Chart(title, picture, legend(series, unit), note)


def _is_silent(values: Sequence[float | None]) -> bool:
    return all(value is None for value in values)
