"""Streams that can be read twice: what cannot seek, or lives far away, is copied to a temporary file first."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from .conf import options
from .exceptions import RefusedError, SourceDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What stays in memory; more goes to a file.
IN_MEMORY = 16 * 1024 * 1024
_BLOCK = 1024 * 1024


@contextmanager
def seekable(content: Any) -> Iterator[IO[bytes]]:
    """Give ``content`` as a stream at its start that can seek; raises :class:`RefusedError` when it is too long."""
    stream = getattr(content, "file", None) or content
    if _can_seek(stream):
        stream.seek(0)
        yield cast("IO[bytes]", stream)
        return
    with spooled() as copy:
        limit = options().max_bytes
        while block := stream.read(_BLOCK):
            copy.write(block)
            if copy.tell() > limit:
                raise RefusedError("size", f"the file has more than {limit:,} bytes")
        copy.seek(0)
        yield copy


@contextmanager
def fetched(stream: IO[bytes], sha256: str) -> Iterator[IO[bytes]]:
    """Give a copy of a stored ``stream``; raises :class:`SourceDamagedError` when its hash is not ``sha256``.

    Decoders read in small pieces and back and forth, and whatever they raise is taken for damage: neither goes well
    with a store on the network.
    """
    digest = hashlib.sha256()
    with spooled() as copy:
        while block := stream.read(_BLOCK):
            digest.update(block)
            copy.write(block)
        if sha256 and digest.hexdigest() != sha256:
            raise SourceDamagedError(
                "the stored picture has changed",
                why=f"its SHA-256 is {digest.hexdigest()} and {sha256} was recorded",
                fix="Restore it from a copy, then render again.",
            )
        copy.seek(0)
        yield copy


def spooled() -> IO[bytes]:
    """Return an empty temporary file, in memory as long as it is small."""
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))


def _can_seek(stream: Any) -> bool:
    try:
        return bool(stream.seekable())
    except AttributeError:
        return hasattr(stream, "seek")
