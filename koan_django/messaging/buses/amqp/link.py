"""One AMQP connection, owned and used by one thread.

The owner waits for the broker's frames and for other threads at once: they call :meth:`Link.wake`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from typing import Any

from kombu.connection import Connection

from koan_django.core import process
from koan_django.core.templating import render

HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 5
#: py-amqp sets one second, which a broker that is short of memory for a moment exceeds.
USER_TIMEOUT_MS = 60_000


class Link:
    """A connection with its heartbeats and its wake-up pipe. ``blocked`` while the broker takes no messages."""

    def __init__(self, url: str, purpose: str) -> None:
        self._url = url
        self._purpose = purpose
        self._connection: Any = None
        self._ticked = 0.0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._socket: Any = None
        self.blocked = False

    @property
    def connected(self) -> bool:
        """Whether the connection is up, as far as is known."""
        return self._connection is not None and bool(self._connection.connected)

    def connect(self) -> None:
        """Connect; the URL's secrets are resolved now, so that a rotated password is picked up."""
        self.disconnect()
        self._connection = Connection(
            render(self._url),
            heartbeat=HEARTBEAT_SECONDS,
            connect_timeout=CONNECT_SECONDS,
            transport_options={
                "on_blocked": self._on_blocked,
                "on_unblocked": self._on_unblocked,
                "client_properties": {"connection_name": f"{process.identity()}:{self._purpose}"},
                "socket_settings": _socket_settings(),
                "write_timeout": CONNECT_SECONDS * 2,
            },
        ).connection
        self._socket = self._connection.sock
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._ticked = time.monotonic()

    def channel(self) -> Any:
        """Open a channel."""
        return self._connection.channel()

    def wake(self) -> None:
        """End the owner's :meth:`wait`; safe from any thread and in a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):  # a full pipe wakes as well
            os.write(self._writer, b"x")

    def wait(self, seconds: float) -> None:
        """Wait for frames or a wake-up, at most ``seconds``; dispatch what arrived. Raises connection errors.

        Without a connection it waits for a wake-up only.
        """
        pending = getattr(self._socket, "pending", None)  # TLS keeps decrypted bytes that select does not see
        self._selector.select(0 if pending is not None and pending() else seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        if self._connection is None:
            return
        self.dispatch()
        if time.monotonic() - self._ticked >= 1:
            self._ticked = time.monotonic()
            self._connection.heartbeat_tick()

    def dispatch(self) -> None:
        """Dispatch the frames that are here already."""
        with contextlib.suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0)

    def disconnect(self) -> None:
        """Close the connection, politely if that works."""
        connection, self._connection = self._connection, None
        if self._socket is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._socket)
            self._socket = None
        self.blocked = False
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.transport.sock.settimeout(CONNECT_SECONDS)
                connection.close()
            with contextlib.suppress(Exception):
                connection.collect()

    def close(self) -> None:
        """Disconnect and give the pipe back; the link is not used again."""
        self.disconnect()
        self._selector.close()
        for descriptor in (self._reader, self._writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False


def _socket_settings() -> dict[int, int]:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return {} if option is None else {option: USER_TIMEOUT_MS}
