"""Waits for other threads of the process, and for Redis to say that something has arrived."""

from __future__ import annotations

import contextlib
import os
import selectors
from typing import Any


class Bell:
    """Owned by the consuming thread; :meth:`ring` may be called from any."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._subscription: Any = None
        self._socket: Any = None

    def listen(self, client: Any, channel: str) -> None:
        """Be rung by what is published to ``channel``."""
        self.deafen()
        self._subscription = client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(channel)
        self._socket = self._subscription.connection._sock
        self._selector.register(self._socket, selectors.EVENT_READ)

    def deafen(self) -> None:
        """Let go of the subscription."""
        if self._socket is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._socket)
        if self._subscription is not None:
            with contextlib.suppress(Exception):
                self._subscription.close()
        self._subscription = self._socket = None

    def wait(self, seconds: float) -> None:
        """Wait to be rung, at most ``seconds``. Raises when the subscription is lost."""
        self._selector.select(seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        while self._subscription is not None and self._subscription.get_message(timeout=0) is not None:
            pass

    def ring(self) -> None:
        """End :meth:`wait`."""
        with contextlib.suppress(BlockingIOError, OSError):  # a full pipe wakes as well
            os.write(self._writer, b"x")

    def close(self) -> None:
        """Give everything back; the bell is not used again."""
        self.deafen()
        self._selector.close()
        for descriptor in (self._reader, self._writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)
