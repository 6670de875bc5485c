"""Finds damage that decoders pass over in silence.

libjpeg fills what it cannot read with grey, and Pillow does not check the sums of PNG's picture data; both would make
a derivative of a broken original that nobody looks at until it is published.
"""

from __future__ import annotations

import re
import zlib
from typing import IO, TYPE_CHECKING

from .opening import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .formats import Format

#: In compressed data FF is followed by 00, by FF (fill) or, where restarts are defined, by D0 to D7 (T.81, B.1.1).
_BREAK = re.compile(rb"\xff[^\x00\xff]")
_BREAK_WITH_RESTARTS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
#: What may stand between two scans: tables, comments, application data, the number of lines, another scan.
_BETWEEN_SCANS = frozenset((0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)))
_SOS, _EOI, _DRI = 0xDA, 0xD9, 0xDD


def verify(stream: IO[bytes], format: Format) -> None:
    """Raise :class:`RefusedError` at ``decode`` when ``stream`` is cut short or corrupt, as far as its frame shows."""
    check = _CHECKS.get(format.name)
    if check is None:
        return
    stream.seek(0)
    problem = check(stream)
    if problem:
        raise damaged(format, problem)


def _jpeg(stream: IO[bytes]) -> str | None:
    data = stream.read()
    at, scan_break = 2, _BREAK
    while True:
        marker = _marker_at(data, at)
        if marker is None:
            return "it ends before its end marker" if at >= len(data) - 1 else f"no marker at byte {at}"
        code, at = marker
        if code == _EOI:
            return None
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            return "it ends inside a segment"
        if code == _DRI:
            scan_break = _BREAK_WITH_RESTARTS if any(data[at + 2 : at + 4]) else _BREAK
        at += length
        if code == _SOS:
            found = scan_break.search(data, at)
            if found is None:
                return "it ends before its end marker"
            at = found.start()
            if data[at + 1] != _EOI and data[at + 1] not in _BETWEEN_SCANS:
                return f"a stray marker at byte {at}"


def _marker_at(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the marker at ``at`` and the place behind it; fill bytes are skipped."""
    if data[at : at + 1] != b"\xff":
        return None
    while data[at : at + 1] == b"\xff":
        at += 1
    return (data[at], at + 1) if at < len(data) else None


def _png(stream: IO[bytes]) -> str | None:
    stream.seek(8)
    while True:
        head = stream.read(8)
        if len(head) < 8:
            return "it ends before its end chunk"
        length = int.from_bytes(head[:4], "big")
        if length > 2**31 - 1:
            return "a chunk is longer than any may be"
        body = stream.read(length)
        if len(body) < length:
            return "it ends inside a chunk"
        if zlib.crc32(body, zlib.crc32(head[4:])) != int.from_bytes(stream.read(4), "big"):
            return f"the sum of a {head[4:].decode('ascii', 'replace')} chunk is wrong"
        if head[4:] == b"IEND":
            return None


_CHECKS: Mapping[str, Callable[[IO[bytes]], str | None]] = {"jpeg": _jpeg, "png": _png}
