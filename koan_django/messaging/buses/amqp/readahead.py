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
    anything has, as a socket with a time limit does.
    """

    def __init__(self, read: Callable[[int], bytes], plain: Any = None) -> None:
        self._read = read
        self._plain = plain
        self._data = b""
        self._at = 0

    @classmethod
    def of(cls, connection: Any) -> ReadAhead:
        """Stand between an established connection of py-amqp and its socket."""
        is_plain = getattr(connection.sock, "pending", None) is None
        made = cls(connection.transport._quick_recv, connection.sock if is_plain else None)
        connection.transport._quick_recv = made.read
        return made

    @property
    def pending(self) -> bool:
        """Whether something was read that nobody has asked for yet: no selector sees it."""
        return self._at < len(self._data)

    def peek(self) -> Delivery | Ack | None:
        """Return the message or the confirm that comes next, if it is whole and plain; :meth:`skip` takes it.

        Reads, if nothing is left of what was read before.
        """
        self._fill()
        return read(self._data, self._at)

    def skip(self, found: Delivery | Ack) -> None:
        """Go on behind ``found``."""
        self._at = found.end

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, nothing at the end of the stream."""
        self._fill()
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def _fill(self) -> None:
        if self._at >= len(self._data):
            self._data, self._at = self._more(), 0

    def _more(self) -> bytes:
        if self._plain is not None:
            try:
                # Asked for each time: the number of a closed socket may be another file's by now.
                return os.read(self._plain.fileno(), CHUNK)
            except BlockingIOError:
                pass
        return self._read(CHUNK)
