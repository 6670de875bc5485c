"""Writes the append-only record of what happened to each message."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db import router, transaction
from django.utils import timezone

from koan_django.core.inserting import insert, insert_all
from koan_django.core.process import identity
from koan_django.core.redaction import redact
from koan_django.core.texts import clean

from .conf import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .envelope import Envelope

#: The columns of a :class:`~koan_django.messaging.models.MessageEvent` that is not made yet: most never are.
Event: TypeAlias = dict[str, Any]

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
) -> Event:
    """Return the columns of an event that happens now; ``duration`` is in seconds."""
    return {
        "at": timezone.now(),
        "kind": kind,
        "message_id": envelope.id,
        "alias": envelope.alias,
        "bus": bus,
        "group": group or envelope.group,
        "handler": handler,
        "attempt": envelope.attempt,
        "duration_ms": None if duration is None else round(duration * 1000, 3),
        "process": identity(),
        "correlation_id": envelope.correlation_id,
        "causation_id": envelope.causation_id,
        "tenant": envelope.tenant,
        "detail": clean(redact(detail), 500) if detail else "",
    }


def record(events: Iterable[Event], *, of: str | None = None) -> None:
    """Write what the option ``TRAIL`` keeps, in one statement.

    What happened in a transaction ``of`` another database than that of the events is written once that has committed.
    """
    trail = options().trail
    if trail == "off":
        return  # and none of them is made
    from .models import MessageEvent

    using = router.db_for_write(MessageEvent)
    kept = [each for each in events if trail == "all" or (trail == "failures" and each["kind"] in TROUBLED)]
    if kept and of is not None and of != using:
        transaction.on_commit(partial(_write, kept, using), using=of, robust=True)
    elif kept:
        _write(kept, using)


def _write(events: Sequence[Event], using: str) -> None:
    from .models import MessageEvent

    if len(events) == 1:
        insert(MessageEvent, events[0], using=using)
    else:
        insert_all(MessageEvent, events, using=using)
