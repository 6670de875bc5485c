"""Lets a message arrive whose properties py-amqp cannot decode.

A timestamp in milliseconds in a header, or a header of a type that it does not know, raises before anybody has seen
the message, and so on every connection to which the broker hands it. What cannot be read is left out instead: of the
headers those that are not to be decoded, and behind one of an unknown type, whose length nobody knows, the rest.
"""

from __future__ import annotations

import logging
from struct import error as StructError  # noqa: N812  # it is an exception
from struct import pack, unpack_from
from typing import TYPE_CHECKING, Any

from amqp.basic_message import Message
from amqp.exceptions import FrameSyntaxError
from amqp.serialization import loads

from koan_django.core.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

#: What py-amqp raises while it decodes.
UNDECODABLE = (
    ValueError,
    OverflowError,
    OSError,
    LookupError,
    StructError,
    TypeError,
    FrameSyntaxError,
    RecursionError,
)
_CONTENT_HEADER = 2
#: Class, weight and size of the body; the flags of the properties follow.
_PREFIX = 12
_HEADERS, _TIMESTAMP = 13, 6
#: The properties of AMQP 0-9-1, basic class: the bit of each, and its form. A short string, a table, an octet, 64 bits.
_PROPERTIES = (
    *((15, "s"), (14, "s"), (_HEADERS, "F"), (12, "o"), (11, "o"), (10, "s"), (9, "s")),
    *((8, "s"), (7, "s"), (_TIMESTAMP, "L"), (5, "s"), (4, "s"), (3, "s"), (2, "s")),
)
#: The sizes of the values in a table, by the letter of their type; and the types that begin with their size.
_FIXED = {"t": 1, "b": 1, "B": 1, "V": 0, "D": 5, "s": 2, "U": 2, "u": 2, "I": 4, "i": 4, "f": 4}
_FIXED |= {"L": 8, "l": 8, "d": 8, "T": 8}
_SIZED = "SxFA"
#: What is left out, the least first.
_ATTEMPTS = ({_HEADERS}, {_TIMESTAMP}, {_HEADERS, _TIMESTAMP}, {bit for bit, _form in _PROPERTIES})


def tolerant(on_frame: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return ``on_frame`` of an established connection, for frames that it cannot decode as well."""

    def handle(frame: Any) -> Any:
        try:
            return on_frame(frame)
        except UNDECODABLE:
            kind, channel, payload = frame
            if kind != _CONTENT_HEADER or _is_decodable(bytes(payload)):
                raise
            return on_frame((kind, channel, _reduced(bytes(payload))))

    return handle


def _reduced(payload: bytes) -> bytes:
    if (found := _with_good_headers(payload)) is not None:
        return found
    for left_out in _ATTEMPTS:
        try:
            found = _without(payload, left_out)
        except UNDECODABLE:
            break
        if _is_decodable(found):
            names = {_HEADERS: "headers", _TIMESTAMP: "timestamp"}
            what = " and ".join(names[bit] for bit in sorted(left_out & set(names)))
            logger.warning("A message arrives without its %s: they cannot be decoded", what)
            return found
    logger.warning("A message arrives without its properties: they cannot be decoded")
    return payload[:_PREFIX] + pack(">H", 0)


def _with_good_headers(payload: bytes) -> bytes | None:
    """Leave out single headers; ``None`` where that is not what is wrong."""
    try:
        (flags,) = unpack_from(">H", payload, _PREFIX)
        pieces = dict(_pieces(payload, flags))
        kept, dropped = _sorted_out(pieces[_HEADERS][4:])
        pieces[_HEADERS] = pack(">L", len(kept)) + kept
        found = payload[: _PREFIX + 2] + b"".join(pieces.values())
    except UNDECODABLE:
        return None
    if not _is_decodable(found):
        return None
    logger.warning("A message arrives without the headers %s: they cannot be decoded", one_line(", ".join(dropped)))
    return found


def _sorted_out(table: bytes) -> tuple[bytes, list[str]]:
    """Return the entries of ``table`` that can be decoded, and the names of the others."""
    kept, dropped, at = b"", [], 0
    while at < len(table):
        value = at + 1 + table[at]
        size = _value_size(table, value)
        end = len(table) if size is None else value + 1 + size
        if size is not None and _is_table(table[at:end]):
            kept += table[at:end]
        else:
            dropped.append(repr(table[at + 1 : value].decode("utf-8", "replace")))
        at = end
    return kept, dropped


def _value_size(table: bytes, at: int) -> int | None:
    """How many bytes stand behind the type of a value; ``None`` for a type that is not known."""
    form = chr(table[at])
    if form in _SIZED:
        return 4 + int(unpack_from(">L", table, at + 1)[0])
    return _FIXED.get(form)


def _is_table(entries: bytes) -> bool:
    try:
        loads("F", pack(">L", len(entries)) + entries, 0)
    except UNDECODABLE:
        return False
    return True


def _without(payload: bytes, left_out: set[int]) -> bytes:
    (flags,) = unpack_from(">H", payload, _PREFIX)
    kept = [(bit, piece) for bit, piece in _pieces(payload, flags) if bit not in left_out]
    remaining = sum(1 << bit for bit, _piece in kept)
    return payload[:_PREFIX] + pack(">H", remaining) + b"".join(piece for _bit, piece in kept)


def _pieces(payload: bytes, flags: int) -> Iterator[tuple[int, bytes]]:
    at = _PREFIX + 2
    for bit, form in _PROPERTIES:
        if flags & 1 << bit:
            size = _size(payload, at, form)
            yield bit, payload[at : at + size]
            at += size


def _size(payload: bytes, at: int, form: str) -> int:
    if form == "s":
        return 1 + payload[at]
    if form == "F":
        return 4 + int(unpack_from(">L", payload, at)[0])
    return 1 if form == "o" else 8


def _is_decodable(payload: bytes) -> bool:
    try:
        Message().inbound_header(payload)
    except UNDECODABLE:
        return False
    return True
