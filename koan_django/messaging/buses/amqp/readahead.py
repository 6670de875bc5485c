"""Reads a connection in large pieces.

py-amqp asks the system for each part of each frame, six times for a message. Each call gives other threads of the
process a turn, and in the main process of a worker one of them always wants it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .arrivals import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from .arrivals import Ack, Delivery

CHUNK = 128 * 1024


class ReadAhead:
    """Gives out what ``read`` returned, in pieces as small as are asked for.

    ``plain`` is a socket without TLS: what has arrived is read from it without asking first whether
    anything has, as a socket with a time limit does. ``decrypted`` tells how many bytes TLS has ready.
    """

    def __init__(
        self, read: Callable[[int], bytes], plain: Any = None, decrypted: Callable[[], int] | None = None
    ) -> None:
        self._read = read
        self._plain = plain
        self._data = b""
        #: Where in it begins what nobody has taken yet.
        self.at = 0
        self._decrypted = decrypted

    @classmethod
    def of(cls, connection: Any) -> ReadAhead:
        """Stand between an established connection of py-amqp and its socket."""
        decrypted = getattr(connection.sock, "pending", None)
        plain = connection.sock if decrypted is None else None
        made = cls(connection.transport._quick_recv, plain, decrypted)
        connection.transport._quick_recv = made.read
        return made

    @property
    def is_plain(self) -> bool:
        """Whether what is read and written is what the system sees, without TLS."""
        return self._plain is not None

    @property
    def pending(self) -> bool:
        """Whether something has been read, or decrypted, that nobody has taken yet: no selector sees it."""
        return self.at < len(self._data) or (self._decrypted is not None and self._decrypted() > 0)

    def peek(self) -> Delivery | Ack | None:
        """Return the message or the confirm that comes next, if it is whole and plain; who takes it sets :attr:`at`.

        Reads, if nothing is left of what was read before.
        """
        if self.at >= len(self._data):
            self._fill()
        return read(self._data, self.at)

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, nothing at the end of the stream."""
        if self.at >= len(self._data):
            self._fill()
        piece = self._data[self.at : self.at + size]
        self.at += len(piece)
        return piece

    def _fill(self) -> None:
        self._data, self.at = b"", 0
        if self._plain is not None:
            try:
                # Asked for each time: the number of a closed socket may be another file's by now.
                self._data = os.read(self._plain.fileno(), CHUNK)
                return
            except BlockingIOError:
                pass
        self._data = self._read(CHUNK)
