"""Notices a consumer that the broker no longer serves, though the connection is up and its heartbeats come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound

from koan_django.messaging.exceptions import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .names import Names
    from .window import AckWindow

PERIOD_SECONDS = 10.0
AGAIN = "Nothing: the worker connects again and declares what is missing. If it comes back, look at the broker's log."


class Watchdog:
    """Owned by the consuming thread. What it raises makes the consumer connect again, and is said in health."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._channel: Any = None
        self._due = 0.0
        #: The last delivery of each group that was silent at the last look.
        self._silent: dict[str, int] = {}

    def open(self, channel: Any) -> None:
        """Ask by a fresh channel."""
        self._channel, self._silent = channel, {}
        self._due = time.monotonic() + PERIOD_SECONDS

    def turn(self, consumed: Iterable[tuple[str, AckWindow]]) -> None:
        """Ask about the queue of each group now and then; raises :class:`BusUnavailableError`."""
        if time.monotonic() < self._due:
            return
        for group, window in tuple(consumed):
            self._look(group, window)
        self._due = time.monotonic() + PERIOD_SECONDS

    def _look(self, group: str, window: AckWindow) -> None:
        queue = self._names.group(group)
        try:
            found = self._channel.queue_declare(queue, passive=True)
        except NotFound as error:
            raise BusUnavailableError(f"the queue {queue!r} is gone", why="it was deleted", fix=AGAIN) from error
        if not found.consumer_count:
            raise BusUnavailableError(
                f"the broker does not serve the queue {queue!r} to this worker",
                why="it knows no consumer of it",
                fix=AGAIN,
            )
        is_silent = bool(found.message_count) and not len(window)
        if is_silent and self._silent.get(group) == window.last:
            raise BusUnavailableError(
                f"nothing arrives from the queue {queue!r}",
                why=f"{found.message_count} messages wait in it, and this worker has room for them",
                fix=AGAIN,
            )
        self._silent.pop(group, None)
        if is_silent:
            self._silent[group] = window.last


def cancelled(queue: str, _tag: str) -> None:
    """Say that the broker has cancelled the consumer of ``queue``."""
    raise BusUnavailableError(
        f"the broker cancelled the consumer of the queue {queue!r}",
        why="the queue was deleted, or its node has gone",
        fix=AGAIN,
    )
