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
    from collections.abc import Mapping

#: Type, channel and size of a frame, before its payload; one octet ends it.
_FRAME = Struct(">BHI").pack
_END = b"\xce"
#: What stands around the payload of a frame.
_SPARE = 8
_METHOD, _HEADER, _BODY = 1, 2, 3
#: The begin of a frame with properties: behind its size class, weight and size of the body.
_CONTENT = Struct(">BHIHHQ").pack
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


def publish(channel: int, exchange: str, routing_key: str, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return the frames that publish a message, mandatory; no frame is larger than ``frame_max``."""
    size, room = len(body), frame_max - _SPARE
    pieces = [
        _method(channel, exchange, routing_key),
        _CONTENT(_HEADER, channel, len(properties) + 12, _BASIC, 0, size),
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


def items(headers: Mapping[str, object]) -> bytes:
    """Return what stands in a table, without its size; raises what py-amqp does for what cannot be in one."""
    pieces: list[bytes] = []
    for name, value in headers.items():
        if type(value) is str:
            text = value.encode("utf-8", "surrogatepass")
            pieces += (_name(name), _TEXT_ITEM(b"S", len(text)), text)
        elif type(value) is int and -_LARGEST <= value <= _LARGEST:
            pieces += (_name(name), _NUMBER_ITEM(b"I", value))
        elif type(value) is bool:
            pieces += (_name(name), b"t\x01" if value else b"t\x00")
        else:
            whole: bytes = dumps("F", (headers,))
            return whole[4:]
    return b"".join(pieces)


def short(text: str) -> bytes:
    """Return a text of at most 255 bytes; raises ``struct.error`` for a longer one."""
    encoded = text.encode("utf-8", "surrogatepass")
    return octet(len(encoded)) + encoded


#: One octet of 0 to 255, 32 and 64 bits; they raise ``struct.error`` for what does not fit.
octet, long, long_long = Struct("B").pack, Struct(">I").pack, Struct(">Q").pack
_name = lru_cache(maxsize=1024)(short)
