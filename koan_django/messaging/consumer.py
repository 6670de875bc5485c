"""The thread that feeds a worker's pool from one bus.

It fetches deliveries group by group, hands them to the pool in batches, keeps their leases alive and settles them by
the pool's verdicts. What a bus does differently is in its subclass.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

from koan_django.core import health
from koan_django.core.telemetry import emit, span
from koan_django.core.threads import DatabaseThread

from . import events, handlers
from .buses.base import Batch
from .exceptions import WorkerLostError
from .verdicts import Verdict, failed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .buses.base import Bus, Pool
    from .envelope import Delivery

logger = logging.getLogger(__name__)

#: More batches than children keep the pool busy while verdicts travel back.
AHEAD = 1
#: A batch shares one child; a longer one would leave the others idle.
BATCH_SECONDS = 0.02
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 15.0


class Consumer(DatabaseThread):
    """Consumes every group of ``bus`` that has handlers in this process."""

    def __init__(self, bus: Bus, pool: Pool) -> None:
        super().__init__(f"koan-bus-{bus.alias}")
        self.bus = bus
        self.pool = pool
        self.draining = threading.Event()
        self.in_flight: dict[int, Batch] = {}
        self.error = ""
        self.consuming = False
        self.handled = 0
        self._numbers = count()
        self._done: deque[tuple[int, list[Verdict] | None]] = deque()
        self._again: deque[Batch] = deque()
        self._paces: dict[str, float] = {}
        groups = handlers.on_bus(bus.alias)
        self._turn_of_groups: deque[str] = deque(groups)
        self._wanted = {group: max(member.batch or 1 for member in members) for group, members in groups.items()}

    # what a bus does differently

    def open(self) -> None:
        """Connect and prepare; may raise."""

    def shut(self) -> None:
        """Let go of what :meth:`open` took; must not raise."""

    @abstractmethod
    def waiting_groups(self) -> Iterable[str]:
        """Return the groups that may have something to fetch."""

    @abstractmethod
    def fetch(self, group: str, limit: int) -> list[Delivery]:
        """Take up to ``limit`` deliveries of ``group``."""

    @abstractmethod
    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        """Do what the verdicts ask: delete or acknowledge, try again later, dead-letter."""

    @abstractmethod
    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Make deliveries available to others again, without counting an attempt."""

    def keep(self) -> None:
        """Keep hold of what is in flight; called often."""

    @abstractmethod
    def idle(self, busy: bool) -> None:
        """Wait for something to do; ``busy`` when the last turn did something. :meth:`wake` ends the wait."""

    @abstractmethod
    def wake(self) -> None:
        """End :meth:`idle` from another thread."""

    # the loop

    def work(self) -> None:
        backoff = MIN_BACKOFF_SECONDS
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                self.open()
                self.consuming, self.error = True, ""
                self._loop()
            except Exception as error:
                self._note(error)
                if time.monotonic() - began > MAX_BACKOFF_SECONDS:
                    backoff = MIN_BACKOFF_SECONDS
                self.stopping.wait(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            finally:
                self.consuming = False
                self.shut()

    def _loop(self) -> None:
        while not self.stopping.is_set():
            busy = self._settle_done()
            self.keep()
            if not self.draining.is_set():
                busy = self._fill() or busy
            elif self._again:
                self._give_back_again()
            self.idle(busy)

    def drain(self) -> None:
        """Fetch nothing more; what is in flight goes on. :attr:`is_busy` tells when it is over."""
        self.draining.set()
        self.wake()

    @property
    def is_busy(self) -> bool:
        """Whether something is in flight or not settled yet."""
        return self.is_alive() and bool(self.in_flight or self._done or self._again)

    def stop(self, timeout: float | None = None) -> None:
        self.stopping.set()
        self.wake()
        super().stop(timeout)

    def finding(self) -> health.Finding:
        """What this consumer says about itself."""
        name = f"messaging.consumer.{self.bus.alias}"
        data = {
            "groups": list(handlers.on_bus(self.bus.alias)),
            "in_flight": len(self.in_flight),
            "settled": self.handled,
        }
        if self.consuming and self.is_alive():
            return health.Finding(name, "healthy", "consuming", critical=True, data=data)
        return health.Finding(name, "unhealthy", self.error or "not consuming", critical=True, data=data)

    def _fill(self) -> bool:
        """Hand over batches until the pool has enough, all groups in turn."""
        submitted = False
        while self._again and self._has_room():
            submitted = self._submit(self._again.popleft()) or submitted
        if not self._has_room():
            return submitted
        waiting = set(self.waiting_groups())
        for _ in range(len(self._turn_of_groups)):
            if not self._has_room():
                break  # whose turn it is now begins the next round
            group = self._turn_of_groups[0]
            self._turn_of_groups.rotate(-1)
            while group in waiting and self._has_room():
                deliveries = self.fetch(group, self._limit(group))
                if not deliveries:
                    break
                submitted = self._submit(Batch(self.bus.alias, group, tuple(deliveries))) or submitted
                if len(self._turn_of_groups) > 1:
                    break  # the next group's turn
        return submitted

    def _has_room(self) -> bool:
        return len(self.in_flight) < self.pool.size + AHEAD

    def _limit(self, group: str) -> int:
        """As many messages as take :data:`BATCH_SECONDS`, and no fewer than a batch handler wants.

        One by one until the first was timed.
        """
        pace = self._paces.get(group, BATCH_SECONDS)
        quick = min(self.bus.options.batch, int(BATCH_SECONDS / max(pace, 1e-6)))
        return max(self._wanted[group], quick)

    def _submit(self, batch: Batch) -> bool:
        number = next(self._numbers)
        self.in_flight[number] = batch

        def done(_batch: Batch, verdicts: list[Verdict] | None) -> None:
            self._done.append((number, verdicts))
            self.wake()

        if self.pool.submit(batch, done):
            return True
        del self.in_flight[number]
        self.give_back(batch.deliveries)
        self.draining.set()
        return False

    def _settle_done(self) -> bool:
        finished = [self._done.popleft() for _ in range(len(self._done))]
        settled: list[tuple[Delivery, Verdict]] = []
        for number, verdicts in finished:
            if number in self.in_flight:
                settled += self._judged(self.in_flight[number], verdicts)
        if settled:
            try:
                with span("messaging.settle", bus=self.bus.alias, messages=len(settled)):
                    self.settle(settled)
            except BaseException:
                self._done.extendleft(reversed(finished))  # the work is done; only its settling is tried again
                raise
            self.handled += len(settled)
        for number, verdicts in finished:  # only now: a drain must not end before its work is settled
            batch = self.in_flight.pop(number, None)
            if batch is not None and verdicts is None and len(batch.deliveries) > 1:
                self._again.extend(Batch(batch.bus, batch.group, (each,)) for each in batch.deliveries)
        return bool(finished)

    def _judged(self, batch: Batch, verdicts: list[Verdict] | None) -> list[tuple[Delivery, Verdict]]:
        """Pair deliveries with verdicts; a batch of several whose child died has none, it is run one by one."""
        if verdicts is not None:
            self._paces[batch.group] = (
                0.7 * self._paces.get(batch.group, verdicts[0].seconds) + 0.3 * verdicts[0].seconds
            )
            return list(zip(batch.deliveries, verdicts, strict=True))
        emit("messaging.child_lost", bus=self.bus.alias, group=batch.group, messages=len(batch.deliveries))
        if len(batch.deliveries) > 1:
            return []
        delivery = batch.deliveries[0]
        error = WorkerLostError(
            "the worker's child died while it handled the message",
            why="it was killed, ran out of memory, or the handler ended the process",
        )
        found = handlers.find(batch.bus, batch.group, delivery.envelope.alias)
        return [(delivery, failed(delivery, found, error))]

    def _give_back_again(self) -> None:
        batches, self._again = list(self._again), deque()
        self.give_back([delivery for batch in batches for delivery in batch.deliveries])

    def _note(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self.error:
            logger.warning("The bus %s is not consumed: %s; trying again", self.bus.alias, text)
        self.error = text

    # what settling has in common

    def record(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        """Write the events of what did not go well; the rest was noted in the handler's transaction."""
        kinds = {"retry": "retried", "postpone": "postponed", "dead": "dead"}
        events.record(
            events.event(
                kinds[verdict.outcome],
                self.bus.alias,
                delivery.envelope,
                group=delivery.group,
                handler=verdict.handler,
                detail=f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}",
            )
            for delivery, verdict in settled
            if verdict.outcome in kinds
        )
