"""Waits for other threads of the process, and for Redis to say that something has arrived."""

from __future__ import annotations

import contextlib
import selectors
from typing import Any

from koan_django.core.bell import PipeBell


class Bell(PipeBell):
    """Owned by the consuming thread; :meth:`ring` may be called from any."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.fileno(), selectors.EVENT_READ)
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
        self.hush()
        while self._subscription is not None and self._subscription.get_message(timeout=0) is not None:
            pass
