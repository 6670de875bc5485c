"""Between an envelope and an AMQP message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp.basic_message import Message

from koan_django.messaging import envelope as wire
from koan_django.messaging.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

PERSISTENT = 2
#: Headers of the broker and of our own bookkeeping, which must not pile up on a message that is published again.
_TRANSIENT = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "koan-dead-")


def to_amqp(envelope: Envelope, extra: Mapping[str, str] | None = None) -> Message:
    """Return a persistent message; ``extra`` headers are added."""
    headers: dict[str, Any] = {
        **envelope.headers,
        wire.VERSION: envelope.version,
        wire.ATTEMPT: envelope.attempt,
        "koan-routing-key": envelope.routing_key,
        **(extra or {}),
    }
    sent_at = envelope.sent_at
    return Message(
        envelope.body,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=PERSISTENT,
        message_id=envelope.id,
        correlation_id=envelope.correlation_id,
        type=envelope.alias,
        priority=envelope.priority,
        application_headers=headers,
        **({"timestamp": int(sent_at.timestamp())} if sent_at else {}),
    )


def from_amqp(message: Any, group: str) -> Envelope:
    """Return the envelope of a delivered message; what a stranger left out is filled in."""
    properties = message.properties
    headers: dict[str, Any] = dict(properties.get("application_headers") or {})
    routing_key = str(headers.pop("koan-routing-key", "") or message.delivery_info.get("routing_key", ""))
    return Envelope(
        id=str(properties.get("message_id") or f"{group}-{message.delivery_tag}"),
        alias=str(properties.get("type") or routing_key.rpartition(".p")[0] or routing_key),
        version=_whole(headers.pop(wire.VERSION, 1)),
        body=_bytes(message.body),
        headers={name: str(value) for name, value in headers.items() if not name.startswith(_TRANSIENT)},
        routing_key=routing_key,
        group=group,
        attempt=_whole(headers.pop(wire.ATTEMPT, 1)),
        priority=_whole(properties.get("priority", 0), least=0),
    )


def _whole(value: object, least: int = 1) -> int:
    try:
        return max(least, int(value))  # type: ignore[call-overload,no-any-return]  # anything may stand in a header
    except (TypeError, ValueError):
        return least


def _bytes(body: object) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)  # type: ignore[call-overload]  # bytes or a buffer
