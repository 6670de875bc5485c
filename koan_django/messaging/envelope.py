"""A message under way: what it is wrapped in, what a handler may ask about it, and what the sender gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from .encoding import decode

if TYPE_CHECKING:
    from .messages import Message

M = TypeVar("M", bound="Message")

#: Header names on the wire. They begin with ``koan-`` and not with ``x-``, which RabbitMQ treats specially.
VERSION = "koan-version"
SENT_AT = "koan-sent-at"
ATTEMPT = "koan-attempt"
CORRELATION = "koan-correlation"
CAUSATION = "koan-causation"
TENANT = "koan-tenant"
IDEMPOTENCY_KEY = "koan-idempotency-key"
PARTITION_KEY = "koan-partition-key"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"
#: The trace in which a message was sent that is sent once more, in a trace of its own.
LINK = "koan-link"
#: From when on a message may be handled that was sent with a delay.
NOT_BEFORE = "koan-not-before"
#: Bounds of what is stored in columns, in characters.
ID_LENGTH, ALIAS_LENGTH, TENANT_LENGTH = 128, 200, 64
OWN = frozenset(
    {VERSION, SENT_AT, ATTEMPT, CORRELATION, CAUSATION, TENANT, IDEMPOTENCY_KEY, PARTITION_KEY}
    | {TRACEPARENT, TRACESTATE, BAGGAGE, LINK, NOT_BEFORE}
)


def time_in(header: str | None) -> datetime | None:
    """Return the time in a header; what a stranger wrote without a zone says nothing."""
    if header is None:
        return None
    try:
        found = datetime.fromisoformat(header)
    except ValueError:
        return None
    return found if found.tzinfo else None


class Envelope(msgspec.Struct, frozen=True):
    """One message as it travels: what a handler of a pattern receives, and what buses carry.

    ``attempt`` counts from 1. ``group`` is set once the message is addressed to a group, or sent to one only. A struct,
    as messages are: it is made for each of them, and crosses to a child of the pool.
    """

    id: str
    alias: str
    version: int
    body: bytes
    headers: Mapping[str, str]
    routing_key: str
    group: str = ""
    attempt: int = 1
    priority: int = 0

    def __repr__(self) -> str:
        """Without the body and the headers, which hold what may not be shown."""
        return f"<Envelope {self.alias} {self.id}>"

    def decode(self, cls: type[M]) -> M:
        """Read the body as ``cls``; raises :class:`~.exceptions.UnreadableMessageError`."""
        return decode(cls, self.body, self.version)

    @property
    def correlation_id(self) -> str:
        """The id of the whole story this message belongs to."""
        return self.headers.get(CORRELATION) or self.id

    @property
    def causation_id(self) -> str:
        """The id of the message whose handler sent this one, or nothing."""
        return self.headers.get(CAUSATION, "")

    @property
    def tenant(self) -> str:
        """The tenant in whose name it was sent, or nothing."""
        return self.headers.get(TENANT, "")

    @property
    def partition_key(self) -> str | None:
        """The key that keeps messages in order, or ``None``."""
        return self.headers.get(PARTITION_KEY)

    @property
    def idempotency_key(self) -> str:
        """What makes a duplicate: the key that the message declares, else its id."""
        return self.headers.get(IDEMPOTENCY_KEY) or self.id

    @property
    def sent_at(self) -> datetime | None:
        """When it was sent, by the sender's clock."""
        return time_in(self.headers.get(SENT_AT))

    @property
    def due_at(self) -> datetime | None:
        """From when on it might be handled: when its delay was over, else when it was sent."""
        return time_in(self.headers.get(NOT_BEFORE)) or self.sent_at

    def context(self) -> dict[str, str]:
        """The context in which its handler runs: its own story, caused by itself."""
        return {
            "correlation": self.correlation_id,
            "causation": self.id,
            "tenant": self.tenant,
            "traceparent": self.headers.get(TRACEPARENT, ""),
            "tracestate": self.headers.get(TRACESTATE, ""),
            "baggage": self.headers.get(BAGGAGE, ""),
        }

    def replayed(self, body: bytes) -> Envelope:
        """The same message with ``body``, sent anew: attempts are counted afresh, in a trace linked to the old one."""
        headers = {name: value for name, value in self.headers.items() if name not in (TRACEPARENT, TRACESTATE)}
        if trace := self.headers.get(TRACEPARENT):
            headers[LINK] = trace
        return replace(self, attempt=1, body=body, headers=headers)

    def next_attempt(self) -> Envelope:
        """The same message, tried once more."""
        return replace(self, attempt=self.attempt + 1)


class Delivery(msgspec.Struct, frozen=True):
    """An envelope that a bus handed to a group; ``ref`` is how the bus knows it again, ``token`` fences it.

    With a ``partition`` it is handled after those that came before it there.
    """

    envelope: Envelope
    bus: str
    group: str
    ref: Any = None
    token: int = 0
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may ask about the message it was given."""

    id: str
    alias: str
    version: int
    bus: str
    group: str
    handler: str
    attempt: int
    max_attempts: int
    correlation_id: str
    causation_id: str
    tenant: str
    sent_at: datetime | None
    headers: Mapping[str, str] = field(repr=False)

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure now goes to the dead letters."""
        return self.attempt >= self.max_attempts


State = Literal["published", "accepted", "cancelled"]


class Receipt(msgspec.Struct, frozen=True):
    """What ``send()`` returns. ``published``: the broker confirmed it; ``accepted``: it is in the database."""

    id: str
    state: State
    bus: str

    def cancel(self) -> bool:
        """Take the message back while it still waits in the database; return whether that was in time."""
        from .outgoing.sending import cancel

        return cancel(self)

    async def acancel(self) -> bool:
        """Like :meth:`cancel`, awaited."""
        from asgiref.sync import sync_to_async

        return await sync_to_async(self.cancel)()
