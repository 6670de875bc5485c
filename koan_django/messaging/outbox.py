"""Messages for a broker, kept in the database until the broker has confirmed them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import connections, router, transaction
from django.utils import timezone

from koan_django.core.retry import RetryPolicy

from . import events
from .envelope import Receipt
from .routing import partition_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .envelope import Envelope

#: Messages of one key share a lane. The number is part of stored rows and does not change.
LANES = 64
#: How long a message waits after a failed publish: 1 s, 2 s, … 60 s, without end.
BACKOFF = RetryPolicy(max_attempts=1_000_000, first_delay=timedelta(seconds=1), max_delay=timedelta(seconds=60))


def lane_of(envelope: Envelope) -> int:
    """Return the lane of a message: that of its partition key, else of its id."""
    return partition_of(envelope.partition_key or envelope.id, LANES)


def must_store(bus: str, envelopes: Sequence[Envelope]) -> bool:
    """Whether messages may not be published at once.

    A transaction is open and may still roll back, or an earlier message of the same key waits already.
    """
    from .models import OutboxMessage

    if connections[router.db_for_write(OutboxMessage)].in_atomic_block:
        return True
    lanes = {lane_of(envelope) for envelope in envelopes if envelope.partition_key}
    return bool(lanes) and OutboxMessage.objects.pending(bus).filter(lane__in=lanes).exists()


def store(bus: str, envelopes: Sequence[Envelope], due: datetime | None, error: str = "") -> list[Receipt]:
    """Write messages to the outbox, in the current transaction if there is one."""
    from .models import OutboxMessage

    at = due or timezone.now()
    rows = [
        OutboxMessage.holding(bus, each, lane=lane_of(each), available_at=at, last_error=error[:500])
        for each in envelopes
    ]
    with transaction.atomic(using=router.db_for_write(OutboxMessage)):
        OutboxMessage.objects.bulk_create(rows)
        events.record(events.event("sent", bus, each) for each in envelopes)
    return [Receipt(each.id, "accepted", bus) for each in envelopes]


def cancel(bus: str, message_id: str) -> bool:
    """Delete a message that still waits; return whether it did."""
    from .models import OutboxMessage

    return bool(OutboxMessage.objects.pending(bus).filter(message_id=message_id).delete()[0])
