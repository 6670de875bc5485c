"""The Trail page: one correlation id from the request to the last thing that any app did for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from koan_django.core import trail
from koan_django.core.audit.requests import ACTION
from koan_django.core.context import tenant
from koan_django.core.models import AuditEvent, Trail
from koan_django.core.redaction import redact_text
from koan_django.core.tabular import comma_separated
from koan_django.core.texts import clean
from koan_django.core.trail import Told

from .kit import RecordAdmin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase

    from koan_django.core.trail import Page, Reader

#: Requests on the page that looks for a trail.
RECENT = 25
#: The bar of a step is drawn on a scale of so many units, and is never so thin that it cannot be seen.
SCALE, THINNEST = 1000.0, 6.0
NAMES = ("at", "kind", "title", "state", "detail", "who", "duration_ms", "attempt", "record", "url")


@dataclass(frozen=True, slots=True)
class Shown:
    """A step as the page draws it: how long after the first one, and its bar."""

    told: Told
    since: str
    took: str
    url: str
    left: float
    width: float

    @property
    def model(self) -> str:
        """What kind of record tells it."""
        return str(capfirst(self.told.row._meta.verbose_name))


@admin.register(Trail)
class TrailAdmin(RecordAdmin[Trail]):
    """Looks for a story where another model would list its rows, and shows it where it would show one."""

    def get_urls(self) -> list[Any]:
        """Two pages; the ids of strangers may hold a slash."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="koan_core_trail_changelist"),
            path("<path:correlation_id>/", view(self.trail_view), name="koan_core_trail"),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Look for a story by its id, or by that of a message, a run or an object; show the newest requests."""
        reader = self._reader(request)
        asked = clean(request.GET.get("q", "").strip(), 255)
        found = trail.find(asked, reader) if asked else None
        if found is not None:
            return HttpResponseRedirect(reverse("admin:koan_core_trail", args=[found]))
        context = {**self._context(request, _("Trail")), "asked": asked, "requests": _recent(reader)}
        return TemplateResponse(request, "admin/koan_core/trail_search.html", context)

    def trail_view(self, request: HttpRequest, correlation_id: str) -> HttpResponseBase:
        """Show one story, a page of it; ``?format=json`` and ``csv`` give all of it to a program."""
        reader, correlation_id = self._reader(request), clean(correlation_id)
        style = request.GET.get("format", "")
        if style in _EXPORTS:
            return _download(style, correlation_id, reader)
        after = trail.Cursor.parse(request.GET.get("after", ""))
        page = trail.page(correlation_id, reader, after=after)
        context = {
            **self._context(request, _("Trail of %s") % correlation_id),
            "correlation_id": correlation_id,
            "page": page,
            "is_continued": after is not None,
            "hidden": sorted(str(model._meta.verbose_name_plural) for model in page.hidden),
            "tenant": reader.tenant,
            **_drawn(page),
        }
        status = 200 if page.steps or after is not None else 404
        return TemplateResponse(request, "admin/koan_core/trail.html", context, status=status)

    def _reader(self, request: HttpRequest) -> Reader:
        if not self.has_view_permission(request):
            raise PermissionDenied

        def may_view(model: type[Model]) -> bool:
            return request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")

        return trail.Reader(may_view, tenant.current())

    def _context(self, request: HttpRequest, title: Any) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "title": title, "opts": self.opts}


def _recent(reader: Reader) -> list[AuditEvent]:
    """The newest requests that left something."""
    if not reader.may_view(AuditEvent):
        return []
    rows = AuditEvent.objects.filter(action=ACTION).exclude(correlation_id="")
    if reader.tenant is not None:
        rows = rows.filter(tenant=reader.tenant)
    return list(rows.order_by("-id")[:RECENT])


def _drawn(page: Page) -> dict[str, Any]:
    """What the template needs beside the steps: where each begins and ends on one scale, and what they amount to."""
    if not page.steps:
        return {"steps": []}
    steps = [told.step for told in page.steps]
    first, last = min(step.began for step in steps), max(step.ended for step in steps)
    return {
        "steps": [_shown(told, first, last - first) for told in page.steps],
        "first": first,
        "lasted": _duration((last - first).total_seconds() * 1000),
        "processes": len({step.who for step in steps if step.who}),
        "troubled": sum(step.troubled for step in steps),
        "scale": SCALE,
    }


def _shown(told: Told, first: datetime, whole: timedelta) -> Shown:
    step, unit = told.step, whole.total_seconds() or 1.0
    left = (step.began - first).total_seconds() / unit * SCALE
    width = max((step.ended - step.began).total_seconds() / unit * SCALE, THINNEST)
    return Shown(
        told,
        since=_duration((step.at - first).total_seconds() * 1000),
        took="" if step.duration_ms is None else _duration(step.duration_ms),
        url=_url(told.row),
        left=round(min(left, SCALE - width), 1),
        width=round(width, 1),
    )


def _duration(ms: float) -> str:
    if ms < 1000:
        return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _url(row: Model) -> str:
    try:
        return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    except NoReverseMatch:  # a project may have taken the screen away
        return ""


def _download(style: str, correlation_id: str, reader: Reader) -> StreamingHttpResponse:
    content_type, write = _EXPORTS[style]
    answer = StreamingHttpResponse(write(correlation_id, reader), content_type=content_type)
    answer["Content-Disposition"] = f'attachment; filename="trail.{style}"'
    return answer


def _values(told: Told) -> dict[str, Any]:
    step = told.step
    told_values = {name: getattr(step, name) for name in NAMES if name not in ("at", "record", "url")}
    record = f"{told.row._meta.label_lower}:{told.row.pk}"
    return {"at": step.at.isoformat(), **told_values, "record": record, "url": _url(told.row)}


def _json(correlation_id: str, reader: Reader) -> Iterator[str]:
    yield f'{{"correlation_id": {json.dumps(correlation_id)}, "steps": ['
    separator = "\n"
    for told in trail.steps(correlation_id, reader):
        yield separator + redact_text(json.dumps(_values(told), ensure_ascii=False))
        separator = ",\n"
    yield "\n]}\n"


def _csv(correlation_id: str, reader: Reader) -> Iterator[str]:
    rows = (_values(told) for told in trail.steps(correlation_id, reader))
    return comma_separated(NAMES, ([values[name] for name in NAMES] for values in rows))


_EXPORTS = {"json": ("application/json", _json), "csv": ("text/csv; charset=utf-8", _csv)}
