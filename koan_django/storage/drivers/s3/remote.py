"""Bytes of an object on another machine, fetched as they are read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

from koan_django.storage.exceptions import StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


class Body(Protocol):
    """An answer that is being received."""

    def read(self, size: int, /) -> bytes:
        """Return some bytes, at most ``size``; raises ``StorageUnavailableError`` when the connection breaks."""

    def close(self) -> None:
        """Receive no more."""


class RemoteBytes(io.RawIOBase):
    """``size`` bytes. ``fetch(at)`` asks for those from ``at`` on: after a seek, or once more when a connection broke.

    ``body`` is the answer to the first question, which has been asked already.
    """

    def __init__(self, body: Body, size: int, fetch: Callable[[int], Body]) -> None:
        self._body: Body | None = body
        self._size = size
        self._fetch = fetch
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is fetched before the next read."""
        at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        if at != self._at:
            self._drop()
            self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        try:
            data = self._read(wanted)
        except StorageUnavailableError:
            data = self._read(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()

    def _read(self, wanted: int) -> bytes:
        try:
            if self._body is None:
                self._body = self._fetch(self._at)
            data = self._body.read(wanted)
            if not data:
                raise StorageUnavailableError("an object ended early", why=f"{wanted} bytes and more are missing")
        except BaseException:
            self._drop()  # what follows in it cannot be trusted
            raise
        return data

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
