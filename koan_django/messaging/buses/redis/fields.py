"""Between an envelope and the fields of a stream's entry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from koan_django.core.context import new_id
from koan_django.core.texts import clean
from koan_django.messaging import envelope as wire
from koan_django.messaging.cleaning import clean_headers, identifier, whole
from koan_django.messaging.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

ID, ATTEMPT = "id", "attempt"


def to_fields(envelope: Envelope) -> list[str | bytes | int]:
    """Return names and values in turn."""
    return [
        *(ID, envelope.id),
        *("type", envelope.alias),
        *("version", envelope.version),
        *(ATTEMPT, envelope.attempt),
        *("priority", envelope.priority),
        *("routing-key", envelope.routing_key),
        *("headers", json.dumps(dict(envelope.headers))),
        *("body", envelope.body),
    ]


def from_fields(pairs: Sequence[bytes], group: str) -> Envelope:
    """Return the envelope of an entry; what a stranger left out or wrote strangely is put right."""
    found = dict(zip(map(_text, pairs[::2]), pairs[1::2], strict=True))
    return Envelope(
        id=identifier(_text(found.get(ID, b"")) or new_id()),
        alias=clean(_text(found.get("type", b"")), wire.ALIAS_LENGTH),
        version=whole(found.get("version", 1)),
        body=found.get("body", b""),
        headers=_headers(found.get("headers", b"{}")),
        routing_key=clean(_text(found.get("routing-key", b"")), 255),
        group=group,
        attempt=whole(found.get(ATTEMPT, 1)),
        priority=min(whole(found.get("priority", 0), least=0), 9),
    )


def _headers(text: bytes) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return clean_headers(found) if isinstance(found, dict) else {}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
