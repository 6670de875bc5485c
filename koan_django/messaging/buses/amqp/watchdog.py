"""Notices a consumer that the broker no longer serves, though the connection is up and its heartbeats come."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound, PreconditionFailed

from koan_django.core.texts import counted
from koan_django.messaging.exceptions import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .window import AckWindow

PERIOD_SECONDS = 10.0
#: How many queues are asked about in one turn: an answer takes a moment, and deliveries wait meanwhile.
AT_ONCE = 16
#: How often a queue may be silent in a row. The broker does not say who of several is the active consumer of a
#: partition; one that has frozen loses its connection, and with it its turn, before that many looks are over.
LOOKS, LOOKS_IN_TURNS = 2, 6
AGAIN = "Nothing: the worker connects again and declares what is missing. If it comes back, look at the broker's log."


class Watchdog:
    """Owned by the consuming thread. What it raises makes the consumer connect again, and is said in health."""

    def __init__(self) -> None:
        self._channel: Any = None
        self._due = 0.0
        self._left: deque[str] = deque()
        #: The window and the last delivery of each queue that is silent, and at how many looks it was.
        self._silent: dict[str, tuple[AckWindow, int, int]] = {}

    def open(self, channel: Any) -> None:
        """Ask by a fresh channel."""
        self._channel, self._silent = channel, {}
        self._left.clear()
        self._due = time.monotonic() + PERIOD_SECONDS

    def turn(self, consumed: Mapping[str, AckWindow]) -> None:
        """Ask about each consumed queue now and then, some at a time; raises :class:`BusUnavailableError`."""
        if not self._left:
            if time.monotonic() < self._due:
                return
            self._left.extend(consumed)
            self._due = time.monotonic() + PERIOD_SECONDS
        for _ in range(min(AT_ONCE, len(self._left))):
            queue = self._left.popleft()
            if queue in consumed:
                self._look(queue, consumed[queue])

    def _look(self, queue: str, window: AckWindow) -> None:
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
        before = self._silent.pop(queue, None)
        if len(window) or not found.message_count:
            return
        looks = before[2] + 1 if before is not None and before[:2] == (window, window.last) else 1
        if looks >= (LOOKS_IN_TURNS if window.in_turns else LOOKS):
            raise BusUnavailableError(
                f"nothing arrives from the queue {queue!r}",
                why=f"{counted(found.message_count, 'message waits', 'messages wait')} there, and this worker has room",
                fix=AGAIN,
            )
        self._silent[queue] = (window, window.last, looks)


def cancelled(queue: str, _tag: str) -> None:
    """Say that the broker has cancelled the consumer of ``queue``."""
    raise BusUnavailableError(
        f"the broker cancelled the consumer of the queue {queue!r}",
        why="the queue was deleted, or its node has gone",
        fix=AGAIN,
    )


def taken_back(error: Exception, groups: Iterable[str]) -> Exception:
    """Return what is said of ``error``: that the broker has waited long enough for an acknowledgement, if so."""
    if not isinstance(error, PreconditionFailed) or "delivery acknowledgement" not in str(error):
        return error
    return BusUnavailableError(
        "the broker took messages back that are still being handled",
        why=f"a handler of {', '.join(sorted(set(groups))) or 'this bus'} takes longer than the broker's"
        f" consumer_timeout allows: {error}",
        fix="Set consumer_timeout in rabbitmq.conf above what the longest handler takes, or give the handler a"
        " time_limit below it. Until then the messages come again, and the inbox drops what was handled.",
    )
