"""From a message to a bus."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.utils import timezone
from msgspec.structs import replace

from koan_django.core import clock
from koan_django.core.audit import touch
from koan_django.core.context import baggage, causation, correlation, in_force, new_id, tenant, traceparent, tracestate
from koan_django.core.telemetry import span
from koan_django.messaging import cloudevents
from koan_django.messaging import envelope as wire
from koan_django.messaging.buses import registry
from koan_django.messaging.conf import options
from koan_django.messaging.encoding import encode
from koan_django.messaging.envelope import Envelope, Receipt
from koan_django.messaging.exceptions import OversizeMessageError
from koan_django.messaging.routing import partition_of, routing_key

from . import databases
from .watching import Sent, tell, watchers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from koan_django.messaging.buses.base import Bus, Due
    from koan_django.messaging.messages import Message
    from koan_django.messaging.meta import MessageOptions

#: For all headers of a message. They travel in one frame, beside the reason of a dead letter.
HEADER_BYTES = 32_768
#: What travels of the context, and in which header.
_OF_CONTEXT = (
    (wire.CORRELATION, correlation),
    (wire.CAUSATION, causation),
    (wire.TENANT, tenant),
    (wire.TRACEPARENT, traceparent),
    (wire.TRACESTATE, tracestate),
    (wire.BAGGAGE, baggage),
)


def send(
    message: Message,
    *,
    delay: timedelta | None = None,
    eta: datetime | None = None,
    bus: str | None = None,
    priority: int = 0,
    group: str = "",
    using: str | None = None,
) -> Receipt:
    """Send one message; see :meth:`Message.send`."""
    # In as few steps as can be: between two messages the processor has forgotten the code of each.
    due = None if delay is None and eta is None else _due(delay, eta)
    using = databases.choose(using)
    meta = type(message)._meta
    chosen = registry.get(bus or meta.bus or options().default_bus)
    envelope = _wrapped(message, meta, chosen, group, priority)
    if due is not None:
        envelope = _timed(envelope, due)
    with span("messaging.send", bus=chosen.alias, messages=1, alias=envelope.alias):
        receipt = chosen.send([envelope], due, using)[0]
    touch()
    if watchers:
        tell(Sent(message, envelope, receipt, due))
    return receipt


async def asend(
    message: Message,
    *,
    delay: timedelta | None = None,
    eta: datetime | None = None,
    bus: str | None = None,
    priority: int = 0,
    group: str = "",
    using: str | None = None,
) -> Receipt:
    """Like :func:`send`, awaited; it takes part in the transaction of the calling thread.

    What is awaited at the same time goes to a broker together, as with :func:`send_many`.
    """
    due = _due(delay, eta)
    using = databases.choose(using) if databases.is_obvious(using) else await sync_to_async(databases.choose)(using)
    meta = type(message)._meta
    chosen = registry.get(bus or meta.bus or options().default_bus)
    envelope = _timed(_wrapped(message, meta, chosen, group, priority), due)
    with span("messaging.send", bus=chosen.alias, messages=1, alias=envelope.alias):
        receipt = await chosen.asend(envelope, due, using)
    touch()
    if watchers:
        tell(Sent(message, envelope, receipt, due))
    return receipt


def send_many(
    messages: Iterable[Message],
    *,
    delay: timedelta | None = None,
    eta: datetime | None = None,
    bus: str | None = None,
    priority: int = 0,
    group: str = "",
    using: str | None = None,
) -> list[Receipt]:
    """Send messages together; return their receipts in the same order.

    Raises what :meth:`Message.send` raises: ``TypeError`` before anything was sent, ``UnroutableError`` of a broker
    after the others were.
    """
    due = _due(delay, eta)
    using = databases.choose(using)
    given = list(messages)
    by_bus: dict[str, list[tuple[int, Envelope]]] = {}
    context = _circumstances()
    for index, message in enumerate(given):
        meta = type(message)._meta
        chosen = registry.get(bus or meta.bus or options().default_bus)
        envelope = _wrapped(message, meta, chosen, group, priority, circumstances=context)
        if due is not None:
            envelope = _timed(envelope, due)
        by_bus.setdefault(chosen.alias, []).append((index, envelope))
    receipts: dict[int, Receipt] = {}
    for alias, numbered in by_bus.items():
        envelopes = [each for _, each in numbered]
        with span("messaging.send", bus=alias, messages=len(envelopes), alias=envelopes[0].alias):
            accepted = registry.get(alias).send(envelopes, due, using)
        touch()
        for (index, envelope), receipt in zip(numbered, accepted, strict=True):
            receipts[index] = receipt
            if watchers:
                tell(Sent(given[index], envelope, receipt, due))
    return [receipts[index] for index in sorted(receipts)]


def cancel(receipt: Receipt) -> bool:
    """Take a message back while it waits in the database."""
    return registry.get(receipt.bus).cancel(receipt.id)


def wrap(
    message: Message, bus: str, *, group: str = "", priority: int = 0, identifier: str = "", correlation_id: str = ""
) -> Envelope:
    """Return ``message`` as it travels on ``bus``; without ``identifier`` it gets a new id."""
    return _wrapped(message, type(message)._meta, registry.get(bus), group, priority, identifier, correlation_id)


def _wrapped(
    message: Message,
    meta: MessageOptions,
    bus: Bus,
    group: str,
    priority: int,
    identifier: str = "",
    correlation_id: str = "",
    circumstances: Mapping[str, str] | None = None,
) -> Envelope:
    """What is sent together has the ``circumstances`` of all of it, else they are those of now."""
    if not isinstance(priority, int) or not 0 <= priority <= 9:
        raise ValueError(f"priority={priority} is not between 0 and 9")
    body = encode(message)
    key = None if meta.partition_field is None else meta.partition_key(message)
    chosen = bus.options
    if len(body) > chosen.max_body:
        raise OversizeMessageError(
            f"this {type(message).__name__} cannot be sent",
            why=f"its body has {len(body)} bytes, and MAX_BODY of the bus {bus.alias!r} is {chosen.max_body}",
            fix="Store what is large, and send its key; or raise MAX_BODY.",
        )
    partition = None if key is None else partition_of(key, chosen.partitions)
    identifier = identifier or new_id()
    headers = _circumstances() if circumstances is None else {**circumstances}
    if key is not None or meta.header_fields or meta.idempotency_fields or wire.BAGGAGE in headers:
        headers = _with_own(message, meta, headers, key)
    if correlation_id:
        headers[wire.CORRELATION] = correlation_id
    if chosen.cloudevents:
        headers |= cloudevents.attributes(identifier, meta.alias, headers)
    return Envelope(
        id=identifier,
        alias=meta.alias,
        version=meta.version,
        body=body,
        headers=headers,
        routing_key=meta.routing_key if partition is None else routing_key(meta.alias, partition),
        group=group,
        priority=priority,
    )


def _circumstances() -> dict[str, str]:
    """Return the headers that say when and in which context something is sent."""
    headers = in_force(_OF_CONTEXT)
    if wire.BAGGAGE in headers and not options().propagate_baggage:
        del headers[wire.BAGGAGE]
    headers[wire.SENT_AT] = clock.stamp()
    return headers


def _with_own(
    message: Message, meta: MessageOptions, circumstances: Mapping[str, str], key: str | None
) -> dict[str, str]:
    """Add the headers that ``message`` has of its own, of which none has a name of ours; check that all can travel.

    Those of the context can, but for the baggage of another library.
    """
    headers = {**meta.headers(message), **circumstances}
    if (identity := meta.idempotency_key(message)) is not None:
        headers[wire.IDEMPOTENCY_KEY] = identity
    if key is not None:
        headers[wire.PARTITION_KEY] = key
    whole = "".join(headers.values())
    size = len(whole) if whole.isascii() else len(whole.encode())
    if size > HEADER_BYTES or "\x00" in whole:
        raise ValueError(
            f"the keys and header fields of this {type(message).__name__} cannot travel: they take {size} bytes of"
            f" {HEADER_BYTES}, and may not hold NUL"
        )
    return headers


def _due(delay: timedelta | None, eta: datetime | None) -> Due:
    if delay is not None and eta is not None:
        raise TypeError("give delay= or eta=, not both")
    if delay is not None and not isinstance(delay, timedelta):
        raise TypeError(f"delay={delay!r} is not a timedelta")
    if eta is not None and (not isinstance(eta, datetime) or timezone.is_naive(eta)):
        raise TypeError("eta= needs a datetime with a time zone: use django.utils.timezone")
    if delay is not None and delay < timedelta(0):
        raise ValueError("delay= must not be negative")
    return eta if delay is None else delay


def _timed(envelope: Envelope, due: Due) -> Envelope:
    """Say in a header from when on a delayed message may be handled: its latency counts from then."""
    if due is None:
        return envelope
    at = due if isinstance(due, datetime) else clock.now() + due
    return replace(envelope, headers={**envelope.headers, wire.NOT_BEFORE: at.isoformat()})


def redeliver(bus: str, envelope: Envelope, group: str) -> Receipt:
    """Send a copy of ``envelope``, with the same id, to one group: what a lost acknowledgement does."""
    return registry.get(bus).send([replace(envelope, group=group)], None)[0]
