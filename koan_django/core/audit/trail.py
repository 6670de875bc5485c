"""What audit tells of a story: the request that began it, and what was done in it."""

from __future__ import annotations

from typing import Any

from koan_django.core.models import AuditEvent
from koan_django.core.trail import Source, Step, source

from .requests import ACTION

#: What sort of thing an action is, by the app whose name it begins with.
_KINDS = {"http": "request", "storage": "storage", "secrets": "secret"}
#: The status from which on a request has failed.
_FAILED = 500


def _step(event: AuditEvent) -> Step:
    data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
    duration = data.get("duration_ms")
    is_request = event.action == ACTION
    status = data.get("status")
    return Step(
        at=event.at,
        kind=_KINDS.get(event.action.partition(".")[0], "audit"),
        title=event.object_text if is_request else f"{event.action} {event.object_text}".rstrip(),
        state=str(status) if is_request else "",
        detail=_detail(data, is_request),
        who=_who(event),
        duration_ms=duration if isinstance(duration, int | float) else None,
        begins=is_request,
        troubled="error" in data or (isinstance(status, int) and status >= _FAILED),
    )


def _detail(data: dict[str, Any], is_request: bool) -> str:
    if is_request:
        return str(data.get("view", ""))
    if "accesses" in data:
        return f"{data['accesses']} accesses by this process"
    return str(data.get("error") or data.get("message") or "")[:200]


def _who(event: AuditEvent) -> str:
    return event.process if event.actor == event.process else f"{event.actor}, {event.process}"


source(
    "koan_core.audit",
    Source(
        model=AuditEvent,
        rows=lambda correlation_id: AuditEvent.objects.filter(correlation_id=correlation_id),
        step=_step,
    ),
)
