"""Reads deliveries and confirms in few steps.

py-amqp takes a frame at a time and asks for each field of it, which is most of what a message costs the thread that
reads it. Here a message that lies whole in what was read is taken at once, and so is a ``basic.ack``. Everything else,
and whatever is not as plain as our own messages, is left to py-amqp.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812  # it is an exception
from typing import Any

import msgspec
from amqp import spec

from .frames import PROPERTIES

#: Type, channel and size of a frame, before its payload; one octet ends it.
_FRAME = Struct(">BHI").unpack_from
_FRAME_SIZE, _END = 7, 0xCE
_METHOD, _HEADER, _BODY = 1, 2, 3
_DELIVER, _ACK = (
    b"".join(number.to_bytes(2, "big") for number in method) for method in (spec.Basic.Deliver, spec.Basic.Ack)
)
#: A whole frame of ``basic.ack``: type, channel, size, method, delivery tag, multiple, end.
_WHOLE_ACK = Struct(">BHI4sQBB")
_ACK_SIZE = _WHOLE_ACK.size - _FRAME_SIZE - 1
#: Size of the body and the flags of the properties, behind class and weight.
_CONTENT = Struct(">QH").unpack_from
_LONG, _NUMBER, _LONG_LONG = Struct(">I").unpack_from, Struct(">i").unpack_from, Struct(">q").unpack_from
_TAG = Struct(">Q").unpack_from
_UTF8 = "utf-8"
_FLAGS = sum(flag for _, flag, _ in PROPERTIES)
#: What is raised for bytes that are not as they are expected.
_STRANGE = (StructError, IndexError, UnicodeDecodeError, ValueError)


class Delivered(msgspec.Struct):
    """A message from the broker, with what :func:`~.properties.from_amqp` asks of one of py-amqp."""

    delivery_tag: int
    delivery_info: dict[str, Any]
    properties: dict[str, Any]
    body: bytes


class Delivery(msgspec.Struct):
    """A message in a buffer: whose it is, and where what follows it begins."""

    end: int
    channel: int
    consumer_tag: str
    message: Delivered


class Ack(msgspec.Struct):
    """A confirm in a buffer, and where what follows it begins."""

    end: int
    channel: int
    tag: int
    multiple: bool


def read(data: bytes, at: int) -> Delivery | Ack | None:
    """Return what begins at ``at``; ``None`` when it is something else, is not whole, or is not plain."""
    method = data[at + _FRAME_SIZE : at + _FRAME_SIZE + 4]
    try:
        if method == _DELIVER:
            return _delivery(data, at)
        if method == _ACK:
            kind, channel, size, _, tag, multiple, end = _WHOLE_ACK.unpack_from(data, at)
            if (kind, size, end) == (_METHOD, _ACK_SIZE, _END):
                return Ack(at + _WHOLE_ACK.size, channel, tag, bool(multiple & 1))
    except _STRANGE:
        pass
    return None


def _delivery(data: bytes, at: int) -> Delivery | None:
    kind, channel, size = _FRAME(data, at)
    header = at + _FRAME_SIZE + size + 1
    kind_of_header, of_header, header_size = _FRAME(data, header)
    body = header + _FRAME_SIZE + header_size + 1
    if (kind, kind_of_header, of_header) != (_METHOD, _HEADER, channel):
        return None
    length, flags = _CONTENT(data, header + _FRAME_SIZE + 4)
    end = body
    if length:
        kind_of_body, of_body, body_size = _FRAME(data, body)
        end = body + _FRAME_SIZE + length + 1
        if (kind_of_body, of_body, body_size) != (_BODY, channel, length):
            return None
    if not data[header - 1] == data[body - 1] == data[end - 1] == _END or flags & ~_FLAGS:
        return None
    consumer_tag, number, routing_key = _arguments(data, at + _FRAME_SIZE + 4)
    properties = _properties(data, header + _FRAME_SIZE + 14, body - 1, flags)
    if properties is None or properties.get("content_encoding", _UTF8) != _UTF8:  # py-amqp brings others into it
        return None
    text = data[body + _FRAME_SIZE : end - 1] if length else b""
    return Delivery(end, channel, consumer_tag, Delivered(number, {"routing_key": routing_key}, properties, text))


def _arguments(data: bytes, at: int) -> tuple[str, int, str]:
    """Consumer tag, delivery tag, redelivered, exchange, routing key."""
    after_tag = at + 1 + data[at]
    exchange = after_tag + 9
    key = exchange + 1 + data[exchange]
    return (
        data[at + 1 : after_tag].decode(),
        _TAG(data, after_tag)[0],
        data[key + 1 : key + 1 + data[key]].decode(),
    )


def _properties(data: bytes, at: int, end: int, flags: int) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name, flag, form in PROPERTIES:
        if not flags & flag:
            continue
        if form == "s":
            after = at + 1 + data[at]
            found[name] = data[at + 1 : after].decode()
            at = after
        elif form == "o":
            found[name] = data[at]
            at += 1
        elif form == "L":
            (found[name],) = _TAG(data, at)
            at += 8
        else:
            after = at + 4 + _LONG(data, at)[0]
            headers = _table(data, at + 4, after)
            if headers is None:
                return None
            found[name] = headers
            at = after
    return found if at == end else None


def _table(data: bytes, at: int, end: int) -> dict[str, Any] | None:
    """Return a table of texts and whole numbers; ``None`` for one with something else."""
    found: dict[str, Any] = {}
    while at < end:
        value = at + 1 + data[at]
        name, form = data[at + 1 : value].decode(), data[value]
        if form == 83:  # S, a text
            at = value + 5 + _LONG(data, value + 1)[0]
            found[name] = data[value + 5 : at].decode()
        elif form == 73:  # I, 32 bits
            (found[name],) = _NUMBER(data, value + 1)
            at = value + 5
        elif form == 108:  # l, 64 bits
            (found[name],) = _LONG_LONG(data, value + 1)
            at = value + 9
        else:
            return None
    return found if at == end else None
