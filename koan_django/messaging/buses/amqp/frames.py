"""Writes ``basic.publish`` in few steps.

py-amqp packs and sends every message by itself, which takes longer than the broker does. Here a message becomes one
piece of bytes, and many pieces leave in one write.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING

from amqp import spec
from amqp.serialization import dumps

if TYPE_CHECKING:
    from amqp.basic_message import Message

#: Type, channel and size of a frame, before its payload; one octet ends it.
_FRAME = Struct(">BHI").pack
_END = b"\xce"
#: What stands around the payload of a frame.
_SPARE = 8
_METHOD, _HEADER, _BODY = 1, 2, 3
#: Class, weight and size of the body.
_CONTENT = Struct(">HHQ").pack
_LONG, _LONG_LONG = Struct(">I").pack, Struct(">Q").pack
_TEXT_ITEM, _NUMBER_ITEM = Struct(">cI").pack, Struct(">ci").pack
_LARGEST = 2**31 - 1
_BASIC = spec.Basic.CLASS_ID
#: The properties that our messages have: name, flag and form, in the order of the wire. A short string, a table, an
#: octet, 64 bits.
PROPERTIES = (
    ("content_type", 0x8000, "s"),
    ("content_encoding", 0x4000, "s"),
    ("application_headers", 0x2000, "F"),
    ("delivery_mode", 0x1000, "o"),
    ("priority", 0x0800, "o"),
    ("correlation_id", 0x0400, "s"),
    ("message_id", 0x0080, "s"),
    ("timestamp", 0x0040, "L"),
    ("type", 0x0020, "s"),
)
_NAMES = frozenset(name for name, _, _ in PROPERTIES)


def properties_of(message: Message) -> bytes:
    """Return the encoded properties of ``message``, as py-amqp writes them, and raise what it raises."""
    properties = message.properties
    if not properties.keys() <= _NAMES:
        return bytes(message._serialize_properties())
    flags, pieces = 0, [b""]
    for name, flag, form in PROPERTIES:
        value = properties.get(name)
        if value is None:
            continue
        flags |= flag
        if form == "s":
            pieces.append(_short(value))
        elif form == "o":
            pieces.append(_octet(value))
        elif form == "L":
            pieces.append(_LONG_LONG(value))
        else:
            pieces.append(_table(value))
    pieces[0] = flags.to_bytes(2, "big")
    return b"".join(pieces)


def publish(channel: int, exchange: str, routing_key: str, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return the frames that publish a message, mandatory; no frame is larger than ``frame_max``."""
    size, room = len(body), frame_max - _SPARE
    pieces = [
        _method(channel, exchange, routing_key),
        _FRAME(_HEADER, channel, len(properties) + 12) + _CONTENT(_BASIC, 0, size),
        properties,
        _END,
    ]
    if 0 < size <= room:
        pieces += (_FRAME(_BODY, channel, size), body, _END)
    elif size:
        for at in range(0, size, room):
            piece = body[at : at + room]
            pieces += (_FRAME(_BODY, channel, len(piece)), piece, _END)
    return b"".join(pieces)


@lru_cache(maxsize=1024)
def _method(channel: int, exchange: str, routing_key: str) -> bytes:
    arguments: bytes = dumps("Bssbb", (0, exchange, routing_key, True, False))
    kind, number = spec.Basic.Publish
    payload = kind.to_bytes(2, "big") + number.to_bytes(2, "big") + arguments
    return b"".join((_FRAME(_METHOD, channel, len(payload)), payload, _END))


def _table(headers: dict[str, object]) -> bytes:
    pieces = []
    for name, value in headers.items():
        pieces.append(_name(name))
        if type(value) is str:
            text = value.encode("utf-8", "surrogatepass")
            pieces.append(_TEXT_ITEM(b"S", len(text)))
            pieces.append(text)
        elif type(value) is int and -_LARGEST <= value <= _LARGEST:
            pieces.append(_NUMBER_ITEM(b"I", value))
        else:
            whole: bytes = dumps("F", (headers,))
            return whole
    table = b"".join(pieces)
    return _LONG(len(table)) + table


@lru_cache(maxsize=1024)
def _name(name: str) -> bytes:
    return _short(name)


def _short(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return _octet(len(encoded)) + encoded


_octet = Struct("B").pack
