"""Streams that pass through storage: hashed on the way in, bounded on the way out."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Large enough that hashing and system calls are cheap per byte. Small enough to stay in the processor's cache between
#: being read, hashed and written: a block of 1 MiB took a third longer per byte.
BLOCK = 256 * 1024


class Readable(Protocol):
    """What can be stored: anything that reads bytes, or text that is stored as UTF-8. It need not seek."""

    def read(self, size: int = ..., /) -> Any:
        """Return at most ``size`` bytes, and nothing at the end."""


class HashingReader:
    """Reads a stream once, counting and hashing what passes."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = BLOCK, /) -> bytes:
        """Return the next bytes. Text may come back longer than ``size``, being encoded."""
        chunk = self._stream.read(size)
        data: bytes = chunk.encode() if isinstance(chunk, str) else (chunk or b"")
        self._digest.update(data)
        self.size += len(data)
        return data

    def blocks(self) -> Iterator[bytes]:
        """Iterate over what is left."""
        while block := self.read(BLOCK):
            yield block

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read so far, in hexadecimal digits."""
        return self._digest.hexdigest()


def sha256_of(stream: Readable) -> str:
    """Return the SHA-256 of what is left of ``stream``."""
    reader = HashingReader(stream)
    for _ in reader.blocks():
        pass
    return reader.sha256


class StoredRange(io.BufferedReader):
    """Some bytes of an object: from ``start`` to ``end``, both included, of ``total``."""

    def __init__(self, raw: io.RawIOBase, start: int, end: int, total: int) -> None:
        super().__init__(raw)
        self.start = start
        self.end = end
        self.total = total

    def __len__(self) -> int:
        return self.end - self.start + 1
