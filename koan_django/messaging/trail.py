"""What messaging tells of a story: each step of its messages, what waits now, and what nobody could handle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core.trail import Source, Step, source

from .events import TROUBLED
from .models import DeadLetter, MessageEvent, OutboxMessage, QueuedDelivery

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .models.stored import StoredEnvelope


def _event(row: MessageEvent) -> Step:
    return Step(
        at=row.at,
        kind="message",
        title=f"{row.alias} by {row.handler}" if row.handler else row.alias,
        state=row.kind,
        detail=row.detail or f"message {row.message_id}",
        who=row.process,
        duration_ms=row.duration_ms,
        attempt=row.attempt if row.attempt > 1 or row.kind == "retried" else None,
        troubled=row.kind in TROUBLED and row.kind not in ("replayed", "duplicate", "cancelled"),
    )


def _dead(row: DeadLetter) -> Step:
    return Step(
        at=row.dead_at,
        kind="message",
        title=f"dead letter of {row.group}: {row.alias}",
        state="dead",  # as it was then; a replay is a step of its own
        detail=row.error,
        attempt=row.attempt,
        troubled=row.state == "dead",
    )


def _outbox(row: OutboxMessage) -> Step:
    title = f"{row.alias} {'is parked in' if row.state == 'parked' else 'waits in'} the outbox"
    troubled = row.state == "parked"
    state = "parked" if troubled else "pending"
    return Step(row.created_at, "message", title, state, row.last_error, attempt=row.tries or None, troubled=troubled)


def _queued(row: QueuedDelivery) -> Step:
    title = f"{row.alias} waits for the group {row.group}"
    return Step(row.created_at, "message", title, "pending", row.last_error, row.lease_owner, attempt=row.attempt)


def _messages_of(correlation_id: str) -> QuerySet[MessageEvent]:
    return MessageEvent.objects.filter(correlation_id=correlation_id)


def _by_message(rows: QuerySet[StoredEnvelope], correlation_id: str) -> QuerySet[StoredEnvelope]:
    """What waits keeps its correlation id in a header; its message id is a column, and stands in its events."""
    return rows.filter(message_id__in=_messages_of(correlation_id).order_by().values("message_id"))


source("koan_messaging.events", Source(MessageEvent, _messages_of, _event, identifiers=("message_id",)))
source(
    "koan_messaging.deadletters",
    Source(
        DeadLetter,
        lambda correlation_id: DeadLetter.objects.filter(correlation_id=correlation_id),
        _dead,
        at="dead_at",
        identifiers=("message_id",),
    ),
)
source(
    "koan_messaging.outbox",
    Source(OutboxMessage, lambda it: _by_message(OutboxMessage.objects.all(), it), _outbox, at="created_at"),
)
source(
    "koan_messaging.queue",
    Source(QueuedDelivery, lambda it: _by_message(QueuedDelivery.objects.all(), it), _queued, at="created_at"),
)
