"""The clocks that decide: what is due, what has expired, what is overdue. A test may put another in their place.

Wall-clock time in Python is Django's ``timezone.now()``, here as everywhere in Django. This module holds what Django
has no name for: the monotonic clock, and whether somebody has moved them all. The database's clock is
:class:`koan_django.core.functions.Now`. What only measures (how long a handler took) or waits for another process
(a confirm, a fork) asks the machine itself.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Final


class Clock(Protocol):
    """Tells the time; the test kit has one that stands still."""

    def now(self) -> datetime:
        """Return an aware time."""

    def monotonic(self) -> float:
        """Return seconds from some beginning; they never go back."""


class _Machine:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


_MACHINE: Final = _Machine()
_clock: Clock = _MACHINE
#: What is added to the monotonic clock in force, so that a change of clocks does not take it back.
_ahead = 0.0


def now() -> datetime:
    """Return the time, aware, also where ``USE_TZ`` is off."""
    return _clock.now()


def stamp() -> str:
    """Return :func:`now` as text: ISO 8601, to the microsecond, in UTC."""
    if _clock is not _MACHINE:
        return _clock.now().astimezone(UTC).isoformat(timespec="microseconds")
    nanoseconds = str(time.time_ns())
    return f"{_second(nanoseconds[:-9])}.{nanoseconds[-9:-3]}+00:00"


@lru_cache(maxsize=4)
def _second(seconds: str) -> str:
    """Of seconds since 1970; asked for with each message, perhaps thousands of times in one of them."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()[:19]


def monotonic() -> float:
    """Return seconds that never go back, to measure how old something is."""
    return (time.monotonic() if _clock is _MACHINE else _clock.monotonic()) + _ahead


def is_moved() -> bool:
    """Whether another clock than the machine's is in force."""
    return _clock is not _MACHINE


def use(clock: Clock | None) -> Clock:
    """Go by ``clock`` in every thread of this process; ``None`` is the machine's. Return the one before."""
    global _clock, _ahead
    shown, before = monotonic(), _clock
    _clock = clock or _MACHINE
    _ahead += shown - monotonic()
    return before
