"""Writes the append-only record of what happened to each message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import router

from koan_django.core.inserting import insert
from koan_django.core.process import identity
from koan_django.core.redaction import redact
from koan_django.core.texts import clean

from .conf import options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .envelope import Envelope
    from .models import MessageEvent

#: What ``TRAIL = "failures"`` keeps.
TROUBLED = frozenset({"retried", "postponed", "dead", "replayed", "parked", "cancelled", "duplicate", "stopped"})


def event(
    kind: str,
    bus: str,
    envelope: Envelope,
    *,
    group: str = "",
    handler: str = "",
    duration: float | None = None,
    detail: str = "",
) -> MessageEvent:
    """Return an unsaved event; ``duration`` is in seconds."""
    from .models import MessageEvent

    return MessageEvent(
        kind=kind,
        message_id=envelope.id,
        alias=envelope.alias,
        bus=bus,
        group=group or envelope.group,
        handler=handler,
        attempt=envelope.attempt,
        duration_ms=None if duration is None else round(duration * 1000, 3),
        process=identity(),
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        tenant=envelope.tenant,
        detail=clean(redact(detail), 500),
    )


def record(events: Iterable[MessageEvent]) -> None:
    """Write what the option ``TRAIL`` keeps, in one statement."""
    trail = options().trail
    if trail == "off":
        return  # and none of them is made
    from .models import MessageEvent

    kept = [each for each in events if trail == "all" or (trail == "failures" and each.kind in TROUBLED)]
    if len(kept) == 1:
        insert(kept[0], using=router.db_for_write(MessageEvent))
    elif kept:
        MessageEvent.objects.bulk_create(kept)
