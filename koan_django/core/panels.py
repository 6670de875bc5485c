"""What core says on the Overview page, beside the health of all processes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count, Min
from django.urls import reverse
from django.utils import timezone

from .models import AuditEvent, AuditSeal
from .overview import Line, panel

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Events that wait longer for their seal than this say that nobody seals.
LATE = timedelta(minutes=15)


@panel("koan_core.audit", "Audit", order=80)
def audit_panel() -> Iterator[Line]:
    """The newest seal, and the events that have none yet."""
    waiting = AuditEvent.objects.all().unsealed().aggregate(count=Count("id"), oldest=Min("at"))
    late = waiting["oldest"] is not None and waiting["oldest"] < timezone.now() - LATE
    url = reverse("admin:koan_core_auditevent_changelist")
    text = f"{waiting['count']}, the oldest of {waiting['oldest']:%Y-%m-%d %H:%M}" if late else str(waiting["count"])
    yield Line("Events without a seal", text, "degraded" if late else "healthy", f"{url}?sealed=no")
    head = AuditSeal.objects.all().head()
    if head is not None:
        url = reverse("admin:koan_core_auditseal_changelist")
        yield Line("Newest seal", f"{head.number}, of {head.sealed_at:%Y-%m-%d %H:%M}", "", url)
