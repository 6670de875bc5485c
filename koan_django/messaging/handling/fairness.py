"""One pool for several consumers, so that the backlog of one keeps no other waiting.

The pool is given no more batches than it has places, since whatever is queued in it would be ahead of who comes next.
One place is left to whoever has none, so the first message of a quiet tenant need not wait until a batch of a busy one
is over. Whoever has none comes before those who have some, and among equals who has waited longest.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from koan_django.messaging.buses.base import Batch, Bus, Pool
    from koan_django.messaging.handling.consumer import Consumer
    from koan_django.messaging.handling.verdicts import Verdict

#: Whoever was woken and does not ask within this has nothing to do any more.
ANSWER_SECONDS = 0.1
#: Whoever waits asks more often than this.
PATIENCE_SECONDS = 2.0


def consumers_of(buses: Iterable[Bus], pool: Pool) -> list[Consumer]:
    """Return a consumer for each bus; several share the pool in turn."""
    every = list(buses)
    if len(every) == 1:
        return [every[0].consumer(pool)]
    divided = DividedPool(pool)
    return [each.consumer(divided.share()) for each in every]


class DividedPool:
    """A pool, and who works in it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._lock = threading.Lock()
        self._shares: list[Share] = []

    def share(self) -> Share:
        """Return the share of one more consumer."""
        self._shares.append(Share(self))
        return self._shares[-1]

    def may_take(self, share: Share) -> bool:
        """Whether it is the turn of ``share``, which has something to do; if not, it is woken when that changes."""
        now = time.monotonic()
        with self._lock:
            share.since, share.asked = share.since or now, now
            may = self._fits(share, now) and not any(self._is_before(other, share, now) for other in self._shares)
            if may:
                share.since = 0.0
            return may

    def take(self, share: Share) -> None:
        """``share`` has one place more; those that are left may be for others."""
        with self._lock:
            share.taken += 1
            woken = self._call()
        for each in woken:
            each.wake()

    def leave(self, share: Share) -> None:
        """``share`` has one place less."""
        with self._lock:
            share.taken -= 1
            woken = self._call()
        for each in woken:
            each.wake()

    def _call(self) -> list[Share]:
        """Return who waits, if there is a place."""
        now = time.monotonic()
        woken = [each for each in self._shares if each.since and self._fits(each, now)]
        for each in woken:
            each.called = now
        return woken

    def _fits(self, share: Share, now: float) -> bool:
        taken, places = sum(each.taken for each in self._shares), self.pool.size
        if not share.taken:
            return taken < places
        spare = 1 if places > 1 else 0
        busy = sum(1 for each in self._shares if each is share or each.taken or each.is_waiting(now))
        return taken < places - spare and share.taken < -(-(places - spare) // busy)

    def _is_before(self, other: Share, share: Share, now: float) -> bool:
        if other is share or not other.since or now - other.called > ANSWER_SECONDS:
            return False
        return self._fits(other, now) and (other.taken, other.since) < (share.taken, share.since)


class Share:
    """The pool as one consumer sees it. ``wake`` tells that consumer that there may be room."""

    def __init__(self, divided: DividedPool) -> None:
        self._divided = divided
        self.wake: Callable[[], None] = lambda: None
        #: How many of its batches are in the pool.
        self.taken = 0
        #: Since when it waits for room, when it asked last, and when it was last woken.
        self.since = self.asked = self.called = 0.0

    @property
    def size(self) -> int:
        """How many batches the whole pool can run at once."""
        return self._divided.pool.size

    def is_waiting(self, now: float) -> bool:
        """Whether it has something to do and no room for it, unless it has ended meanwhile."""
        return bool(self.since) and now - self.asked < PATIENCE_SECONDS

    def has_room(self, *, wanted: bool) -> bool:
        """Whether another batch may be submitted; ``wanted`` says that there is one."""
        if wanted:
            return self._divided.may_take(self)
        self.since = 0.0
        return True

    def submit(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> bool:
        """Have ``batch`` handled, as the pool does."""

        def over(batch: Batch, verdicts: list[Verdict] | None) -> None:
            self._divided.leave(self)
            done(batch, verdicts)

        self._divided.take(self)
        if self._divided.pool.submit(batch, over):
            return True
        self._divided.leave(self)
        return False
