"""A message of Celery as a row of the outbox keeps it: ready to be published, and nothing is decided later.

Routing, absolute times and ids stand in it as Celery has made them at the call. Whoever publishes it needs to know
neither the task nor its options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from django.utils import timezone

from koan_django.core.context import correlation, snapshot
from koan_django.messaging import envelope as wire
from koan_django.messaging.envelope import ALIAS_LENGTH, ID_LENGTH, Envelope
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.routing import routing_key

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Under which name a value of the context travels with an envelope.
_HEADERS = {
    "causation": wire.CAUSATION,
    "tenant": wire.TENANT,
    "traceparent": wire.TRACEPARENT,
    "tracestate": wire.TRACESTATE,
}


class Parcel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of Celery. ``body`` is its JSON, byte for byte; ``queue`` is declared before it is published."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str
    routing_key: str
    body: msgspec.Raw
    queue: str | None = None
    delivery_mode: int | None = None
    compression: str | None = None

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.headers["task"])

    @property
    def id(self) -> str:
        """The id of the task, which the caller has in hand already."""
        return str(self.headers["id"])


def wrap(parcel: Parcel) -> Envelope:
    """Return the envelope that the outbox keeps; raises :class:`MessagingError` for what no row can hold."""
    if len(parcel.task) > ALIAS_LENGTH or len(parcel.id) > ID_LENGTH:
        raise MessagingError(
            f"the task {parcel.task[:80]} cannot be kept in the outbox",
            why=f"its name may have {ALIAS_LENGTH} characters, and its id {ID_LENGTH}",
            fix="Give it a shorter name, or let Celery choose the id.",
        )
    try:
        body = msgspec.json.encode(parcel)
    except (TypeError, ValueError) as error:
        raise MessagingError(
            f"the task {parcel.task} cannot be kept in the outbox",
            why=f"its headers and options are not JSON: {error}",
            fix="Pass options that are text, numbers, lists and dicts.",
        ) from error
    return Envelope(parcel.id, parcel.task, 1, body, _headers(parcel), routing_key(parcel.task, None))


def unwrap(envelope: Envelope) -> Parcel:
    """Return the message of Celery that ``envelope`` holds; raises ``msgspec.MsgspecError`` for anything else."""
    return msgspec.json.decode(envelope.body, type=Parcel)


def _headers(parcel: Parcel) -> Mapping[str, str]:
    context = snapshot()
    known = {header: context[name] for name, header in _HEADERS.items() if name in context}
    return known | {
        wire.SENT_AT: timezone.now().isoformat(),
        wire.CORRELATION: correlation.current() or parcel.id,
    }
