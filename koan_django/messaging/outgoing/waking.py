"""How a thread that polls for rows waits between two looks: shortly, or for long where it is woken by notifications."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from koan_django.core import clock

from .listening import Subscription, is_possible

if TYPE_CHECKING:
    from koan_django.messaging.conf import BusOptions

#: A look now and then while notifications arrive: for what became due by itself, or was given back by others. With the
#: second that a policy may be old, what somebody resumes goes on within two.
LISTENING_SECONDS = 0.75
#: How long the looks stay frequent after there was something to do: a sender that is busy notifies no more.
LINGER_SECONDS = 2.0


class Waker:
    """Waits, until :meth:`wake` is called from any thread or it is time to look."""

    def __init__(self, bus: str, options: BusOptions) -> None:
        self._bus, self._options = bus, options
        self._event = threading.Event()
        self._subscription: Subscription | None = None
        self._stirred = clock.monotonic()

    @property
    def is_notified(self) -> bool:
        """Whether notifications of the database arrive."""
        return self._subscription is not None and self._subscription.is_live

    def open(self, using: str) -> None:
        """Listen, where the database can notify and the option ``NOTIFY`` does not forbid it."""
        if self._subscription is None and self._options.notify and is_possible(using):
            self._subscription = Subscription(self._bus, using, self.wake)

    def close(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            self._subscription.end()
            self._subscription = None

    def wake(self) -> None:
        """End the wait."""
        self._event.set()

    def stir(self) -> None:
        """There was something to do: look often for a while."""
        self._stirred = clock.monotonic()

    def wait(self) -> None:
        """Wait until there may be something to do."""
        if self._event.wait(self._seconds()):
            self.stir()
        self._event.clear()

    def _seconds(self) -> float:
        interval = self._options.poll_interval.total_seconds()
        if self.is_notified and clock.monotonic() - self._stirred > LINGER_SECONDS:
            return max(interval, LISTENING_SECONDS)
        return interval
