"""The lease on the periodic tasks of django-celery-beat: its schedule lives in the memory of one beat."""

from __future__ import annotations

from datetime import timedelta

from koan_django.core import clock
from koan_django.core.exceptions import LeaseLostError
from koan_django.core.leases import NamedLease, acquire

NAME = "koan_scheduling.periodic"
TTL = timedelta(seconds=15)
#: How often a beat without the lease asks for it, and one that holds it renews it.
PERIOD = TTL.total_seconds() / 3


class PeriodicLease:
    """Held by one beat at a time; another takes over within 15 s when that one is killed, at once when it ends."""

    def __init__(self) -> None:
        self._held: NamedLease | None = None
        self._ask_at = 0.0

    @property
    def held(self) -> bool:
        """Whether this beat runs the periodic tasks."""
        return self._held is not None

    def hold(self) -> bool:
        """Renew the lease or try to take it, when it is time; return whether it was taken just now."""
        now = clock.monotonic()
        if now < self._ask_at:
            return False
        self._ask_at = now + PERIOD
        if self._held is not None:
            try:
                self._held.renew()
                return False
            except LeaseLostError:
                self._held = None
        self._held = acquire(NAME, TTL)
        return self.held

    def release(self) -> None:
        """Let another beat take over at once."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def forget(self) -> None:
        """Hold nothing any more and ask again at the next turn: the database was away."""
        self._held = None
        self._ask_at = 0.0

    def describe(self) -> str:
        """Say what this beat does, for its health fact."""
        return "fires tasks and runs the periodic ones" if self.held else "fires tasks; another runs the periodic ones"
