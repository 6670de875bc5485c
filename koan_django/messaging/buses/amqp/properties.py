"""Between an envelope and an AMQP message."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from koan_django.core.context import new_id
from koan_django.core.texts import clean
from koan_django.messaging import cloudevents
from koan_django.messaging import envelope as wire
from koan_django.messaging.cleaning import clean_header, identifier, whole
from koan_django.messaging.envelope import Envelope, time_in
from koan_django.messaging.routing import routing_key

from . import frames
from .topology import DELAY

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTING_KEY = "koan-routing-key"
#: Headers of the broker and of our own bookkeeping, which must not pile up on a message that is published again.
_TRANSIENT = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "koan-dead-", DELAY)
#: Short strings on the wire have a length of one byte.
_SHORT = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The length of a time with microseconds and a zone.
_WITH_FRACTION = len("2026-01-01T00:00:00.000000+00:00")
#: The largest header that a message keeps when there is no room for all, in bytes.
_BARE = 2048
_PARTITION = re.compile(r"\.p\d*$")
NO_HEADERS: Mapping[str, str | bool] = MappingProxyType({})


#: The properties that each of our messages has, by their flags, and those that not each has.
_FLAGS = {name: flag for name, flag, _ in frames.PROPERTIES}
_MAYBE = _FLAGS["correlation_id"] | _FLAGS["timestamp"]
_ALWAYS = sum(_FLAGS.values()) & ~_MAYBE
_JSON = frames.short("application/json") + frames.short("utf-8")
_PERSISTENT = b"\x02"
#: Headers that are written from the fields of an envelope.
_FIELDS = frozenset({wire.VERSION, wire.ATTEMPT, ROUTING_KEY})


def properties_of(envelope: Envelope, extra: Mapping[str, str | bool] = NO_HEADERS, *, bare: bool = False) -> bytes:
    """Return the properties of a persistent message as they are written; ``extra`` headers are added.

    ``bare`` leaves out the headers that are not ours, for a stranger's message that has no room for ``extra``. Raises
    what py-amqp would for what cannot be written.
    """
    headers: Mapping[str, Any] = envelope.headers
    if bare:
        headers = {name: value for name, value in headers.items() if name in wire.OWN and len(value.encode()) <= _BARE}
    if extra or not _FIELDS.isdisjoint(headers):
        headers = {name: value for name, value in {**headers, **extra}.items() if name not in _FIELDS}
    table = frames.items(headers) + _bookkeeping(
        envelope.version, envelope.attempt, envelope.alias, envelope.routing_key
    )
    identity = frames.short(envelope.id)
    correlation = envelope.headers.get(wire.CORRELATION)
    story = identity if not correlation or correlation == envelope.id else _story_of(correlation)
    sent_at = envelope.headers.get(wire.SENT_AT)
    if sent_at is not None and len(sent_at) == _WITH_FRACTION and sent_at[19] == "." and sent_at[20:26].isdecimal():
        sent_at = sent_at[:19] + sent_at[26:]  # so that what is sent in one second has the same
    time = _timestamp(sent_at)
    return b"".join(
        (
            _flags(bool(story), bool(time)),
            frames.long(len(table)),
            table,
            _PERSISTENT,
            frames.octet(envelope.priority),
            story,
            identity,
            time,
            _alias_of(envelope.alias),
        )
    )


@lru_cache(maxsize=1024)
def _bookkeeping(version: int, attempt: int, alias: str, key: str) -> bytes:
    """The headers that an envelope has fields for: the version, by which one of ours is known, and what is unusual."""
    counted = {wire.ATTEMPT: attempt} if attempt != 1 else {}
    addressed = {ROUTING_KEY: key} if key != routing_key(alias, None) else {}
    return frames.items({wire.VERSION: version, **counted, **addressed})


@cache
def _flags(has_story: bool, has_time: bool) -> bytes:
    """Which properties there are, and the first of them."""
    found = _ALWAYS | has_story * _FLAGS["correlation_id"] | has_time * _FLAGS["timestamp"]
    return found.to_bytes(2, "big") + _JSON


def _story_of(correlation: str) -> bytes:
    """Nothing for one that is too long: the header of the same name holds it anyway."""
    encoded = correlation.encode("utf-8", "surrogatepass")
    return frames.octet(len(encoded)) + encoded if len(encoded) <= _SHORT else b""


@lru_cache(maxsize=64)
def _timestamp(sent_at: str | None) -> bytes:
    """In whole seconds. What nobody can read, or is before 1970, is left out."""
    found = time_in(sent_at)
    return b"" if found is None or found < _EPOCH else frames.long_long(int(found.timestamp()))


_alias_of = lru_cache(maxsize=1024)(frames.short)


def from_amqp(message: Any, group: str) -> Envelope:
    """Return the envelope of a delivered message; what a stranger left out or wrote strangely is put right.

    A message without an id gets one of its own: it cannot be told from another that says the same.
    """
    properties = message.properties
    headers: dict[str, Any] = dict(properties.get("application_headers") or {})
    is_ours = wire.VERSION in headers
    body = _bytes(message.body)
    event = cloudevents.read(headers, properties.get("content_type"), body)
    if event is not None:
        headers, body = event.headers, event.body
        properties = properties | {name: value for name, value in event.properties.items() if value}
    key, delivered = str(headers.pop(ROUTING_KEY, "")), str(message.delivery_info.get("routing_key", ""))
    alias = _alias(properties.get("type") or _PARTITION.sub("", key or delivered))
    if not key:
        key = delivered
        partition = _PARTITION.search(delivered)
        if is_ours and (partition is None or delivered[: partition.start()] != alias):
            key = routing_key(alias, None)  # the broker dead-lettered it, or it was moved, under the name of a queue
    version, attempt = whole(headers.pop(wire.VERSION, 1)), whole(headers.pop(wire.ATTEMPT, 1))
    if properties.get("correlation_id"):
        headers.setdefault(wire.CORRELATION, properties["correlation_id"])
    return Envelope(
        id=identifier(properties.get("message_id") or new_id()),
        alias=alias,
        version=version,
        body=body,
        headers={kept: clean_header(kept, headers[name]) for name in headers if (kept := _kept(name)) is not None},
        routing_key=clean(key, _SHORT),
        group=group,
        attempt=attempt,
        priority=whole(properties.get("priority", 0), least=0),
    )


@lru_cache(maxsize=1024)
def _alias(text: object) -> str:
    """``text`` as far as it fits into a column and into a short string."""
    return clean(text, wire.ALIAS_LENGTH).encode()[:_SHORT].decode("utf-8", "ignore")


@lru_cache(maxsize=1024)
def _kept(name: object) -> str | None:
    """The name of a header that a message keeps, or ``None``."""
    text = clean(name)
    return None if text.startswith(_TRANSIENT) else text


def _bytes(body: object) -> bytes:
    if isinstance(body, str):  # py-amqp decodes what declares an encoding
        return body.encode("utf-8", "surrogatepass")
    return bytes(body)  # type: ignore[call-overload,no-any-return]  # bytes or a buffer
