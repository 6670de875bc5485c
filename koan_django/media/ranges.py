"""A single byte range (RFC 9110, 14). Several at once, and what is not well formed, are answered with the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


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
    found = _SINGLE.fullmatch(header)
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        if not length:
            raise UnsatisfiableError(header)
        return ByteRange(size - length, size - 1)
    start, end = int(first), int(last) if last else size - 1
    if last and end < start:
        return None
    if start >= size:
        raise UnsatisfiableError(header)
    return ByteRange(start, min(end, size - 1))
