"""CloudEvents 1.0 in the headers of a message, by its AMQP binding.

Sent in binary mode: the attributes are headers, the body stays as it is. Received in binary or structured mode.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings

from . import envelope as wire
from .cleaning import identifier
from .conf import options

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "cloudEvents:"
#: What those use who may not have a colon in a name.
_PLAIN_PREFIX = "cloudEvents_"
_SPECVERSION = "specversion"
_MARKS = (PREFIX + _SPECVERSION, _PLAIN_PREFIX + _SPECVERSION)
STRUCTURED = "application/cloudevents+json"
#: Extension attributes, and the headers of ours that say the same.
_EXTENSIONS = {
    "correlationid": wire.CORRELATION,
    "causationid": wire.CAUSATION,
    "partitionkey": wire.PARTITION_KEY,
}
#: A body holds attributes of any length. The longest key, in characters; as a header it has to fit into a frame.
_KEY = 1024
_TRACE = {"traceparent": wire.TRACEPARENT, "tracestate": wire.TRACESTATE}


@dataclass(frozen=True, slots=True)
class Event:
    """What a stranger's event says. ``headers`` are those of the message, with ours put beside its attributes."""

    id: str
    type: str
    headers: dict[str, Any]
    body: bytes

    @property
    def properties(self) -> dict[str, str]:
        """What its attributes say in place of AMQP's properties, empty where they say nothing."""
        return {"message_id": self.id, "type": self.type}


def source() -> str:
    """Return the ``source`` of what this project sends: ``SOURCE``, else the package of its URLs."""
    package = str(getattr(settings, "ROOT_URLCONF", None) or "koan").partition(".")[0]
    return options().source or f"/{package}"


def attributes(identifier: str, alias: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that make a message with ``headers`` an event."""
    found = {_SPECVERSION: "1.0", "id": identifier, "source": source(), "type": alias, "time": headers[wire.SENT_AT]}
    told = {wire.CORRELATION: identifier, **headers}
    found |= {name: told[header] for name, header in _EXTENSIONS.items() if told.get(header)}
    return {PREFIX + name: value for name, value in found.items()}


def read(headers: Mapping[str, Any], content_type: str | None, body: bytes) -> Event | None:
    """Return the event that a stranger's message is; ``None`` for any other, and for one of ours."""
    if wire.VERSION in headers:
        return None
    if any(mark in headers for mark in _MARKS):
        return _event(_attributes_in(headers), headers, body)
    if (content_type or "").lower().startswith(STRUCTURED):
        return _structured(headers, body)
    return None


def _attributes_in(headers: Mapping[str, Any]) -> dict[str, Any]:
    size = len(PREFIX)
    return {name[size:]: value for name, value in headers.items() if str(name).startswith((PREFIX, _PLAIN_PREFIX))}


def _structured(headers: Mapping[str, Any], body: bytes) -> Event | None:
    """An event that is a JSON object, its data inside; what is none stays as it came, and cannot be read."""
    try:
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        data = bytes(found.pop("data", b"{}"))
        if encoded := found.pop("data_base64", None):
            data = base64.b64decode(msgspec.json.decode(encoded, type=str), validate=True)
        values = {name: msgspec.json.decode(value) for name, value in found.items()}
    except (ValueError, RecursionError):  # msgspec's and base64's errors are the first, too many brackets the second
        return None
    return _event({name: value for name, value in values.items() if value is not None}, headers, data)


def _event(found: dict[str, Any], headers: Mapping[str, Any], body: bytes) -> Event | None:
    if not str(found.get(_SPECVERSION, "")).startswith("1."):
        return None
    told = {name: found[attribute] for attribute, name in (_EXTENSIONS | _TRACE).items() if attribute in found}
    if "time" in found:
        told[wire.SENT_AT] = _time(found["time"])
    if "id" in found:  # unique within its source only
        told[wire.IDEMPOTENCY_KEY] = identifier(f"{found.get('source', '')} {found['id']}", _KEY, _KEY * 2)
    kept = {name: value for name, value in headers.items() if not str(name).startswith((PREFIX, _PLAIN_PREFIX))}
    named = {PREFIX + name: value for name, value in found.items()}
    return Event(str(found.get("id", "")), str(found.get("type", "")), {**told, **kept, **named}, body)


def _time(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
