"""``frozen_clock``: time that passes when the test says so."""

from __future__ import annotations

from contextlib import ContextDecorator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest import mock

from django.utils import timezone

from koan_django.core import clock

if TYPE_CHECKING:
    from datetime import tzinfo
    from typing import Self


class FrozenClock:
    """Stands still until :meth:`advance` or :meth:`move_to`; what ``frozen_clock()`` yields."""

    def __init__(self, at: datetime) -> None:
        self._at = _aware(at)
        self._passed = timedelta(0)

    def now(self) -> datetime:
        """Return the time it shows, in UTC."""
        return self._at

    def monotonic(self) -> float:
        """Return the seconds by which it was advanced."""
        return self._passed.total_seconds()

    def advance(
        self, *, weeks: float = 0, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> datetime:
        """Let time pass and return what it is then; raises ``ValueError`` for a way back."""
        return self.move_to(self._at + timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds))

    def move_to(self, when: datetime) -> datetime:
        """Let time pass until ``when``, an aware time; raises ``ValueError`` for a way back."""
        when = _aware(when)
        if when < self._at:
            raise ValueError(f"the clock shows {self._at:%Y-%m-%d %H:%M:%S} and cannot go back to {when}")
        self._passed += when - self._at
        self._at = when
        return when


class frozen_clock(ContextDecorator):  # noqa: N801  # used like a function
    """Stop the time that decides for a block or a function: delays, retries, leases, schedules, times to live.

    ``with frozen_clock(datetime(2026, 3, 29, 2, 59, tzinfo=madrid)) as clock:`` and then ``clock.advance(minutes=5)``.
    Without a time it stops at the present one. In force in all threads of this process: for our own code, for what
    the database calls now in our queries, and for Django's ``timezone.now()``, so also for ``auto_now`` fields,
    sessions and your own code. What measures or waits for another process goes on by the machine's clock.
    """

    def __init__(self, at: datetime | None = None) -> None:
        self._at = at
        self._entered: list[tuple[clock.Clock, mock._patch[type]]] = []

    def __enter__(self) -> FrozenClock:
        frozen = FrozenClock(self._at or clock.now())
        patch = mock.patch.object(timezone, "datetime", _showing(frozen))
        self._entered.append((clock.use(frozen), patch))
        patch.start()
        return frozen

    def __exit__(self, *exc_info: object) -> None:
        before, patch = self._entered.pop()
        patch.stop()
        clock.use(before)

    def _recreate_cm(self) -> Self:
        return type(self)(self._at)


def _showing(frozen: FrozenClock) -> type:
    """What ``timezone.now()`` asks: references to that function are everywhere, to this name only beside it."""

    class Datetime(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Shown(metaclass=Datetime):
        @staticmethod
        def now(tz: tzinfo | None = None) -> datetime:
            return frozen.now().astimezone(tz) if tz else timezone.make_naive(frozen.now())

    return Shown


def _aware(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise ValueError(f"{when} has no time zone: write datetime(..., tzinfo=UTC)")
    return when.astimezone(UTC)
