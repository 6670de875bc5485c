"""A single byte range (RFC 9110, 14). Several at once, and what is not well formed, are answered with the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNIT = re.compile(r"bytes=(.*)", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
#: Beyond any object; Python refuses to read numbers of thousands of digits.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from ``start`` to ``end``, both included."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start + 1


class UnsatisfiableError(ValueError):
    """No byte of the object lies in the range."""


def parse(header: str, size: int) -> ByteRange | None:
    """Return what ``header`` asks of ``size`` bytes, or ``None`` when it is to be ignored.

    Raises :class:`UnsatisfiableError`.
    """
    found = _SPEC.fullmatch(_single(header))
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return _suffix(_number(last), size)
    start = _number(first)
    end = _number(last) if last else max(start, size - 1)
    if end < start:
        return None
    if start >= size:
        raise UnsatisfiableError(header)
    return ByteRange(start, min(end, size - 1))


def _single(header: str) -> str:
    """The one range of ``header``, or nothing. Empty elements of a list do not count (5.6.1.2)."""
    found = _UNIT.fullmatch(header.strip(" \t"))
    specs = [spec for each in (found[1] if found else "").split(",") if (spec := each.strip(" \t"))]
    return specs[0] if len(specs) == 1 else ""


def _suffix(length: int, size: int) -> ByteRange | None:
    """The last ``length`` bytes. Of nothing they are satisfiable, and no Content-Range could say so."""
    if not length:
        raise UnsatisfiableError("the last 0 bytes")
    return ByteRange(max(size - length, 0), size - 1) if size else None


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS
