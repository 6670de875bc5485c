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
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache, partial
from itertools import count
from typing import TYPE_CHECKING

from koan_django.core import faults, health
from koan_django.core.redaction import redact_text
from koan_django.core.telemetry import emit, span
from koan_django.core.threads import DatabaseThread

from . import events, handlers
from .buses.base import Batch
from .exceptions import WorkerLostError
from .gate import HELD, Gate
from .limits import NO_LIMITS, overdue
from .pacing import Pace, parts
from .tallying import Tally
from .verdicts import Verdict, failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from koan_django.core.circuits import Permit

    from .buses.base import Bus, Pool
    from .envelope import Delivery
    from .limits import Limits, Overdue

logger = logging.getLogger(__name__)

#: More batches than children keep the pool busy while verdicts travel back.
AHEAD = 1
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 15.0
#: A delivery whose handler is held, and that could not be left where it was, comes back after so long.
HOLD = timedelta(seconds=5)
_BEFORE_SETTLE = faults.point("messaging.consumer.before_settle")


class Consumer(DatabaseThread):
    """Consumes every group of ``bus`` that has handlers in this process.

    After :meth:`drain` the thread ends by itself once everything in flight is settled.
    """

    def __init__(self, bus: Bus, pool: Pool) -> None:
        super().__init__(f"koan-bus-{bus.label}")
        self.bus = bus
        self.pool = pool
        self.draining = threading.Event()
        self.in_flight: dict[int, Batch] = {}
        #: Why nothing is consumed, and what goes wrong although something is.
        self.error = self.trouble = ""
        self.consuming = False
        self.handled = 0
        self._numbers = count()
        self._done: deque[tuple[int, list[Verdict] | None]] = deque()
        self._judged: dict[int, list[tuple[Delivery, Verdict]]] = {}
        self._again: deque[Batch] = deque()
        groups = handlers.on_bus(bus.alias)
        self.groups: deque[str] = deque(groups)
        self._limits_of = lru_cache(maxsize=4096)(self._find_limits)
        self._told: set[Overdue] = set()
        wanted = {group: max(member.batch or 1 for member in members) for group, members in groups.items()}
        self._pace = Pace(wanted, bus.options.batch)
        self.gate = Gate(bus.alias, self.hold)
        self._tally = Tally(bus.alias)
        self._permits: dict[int, Mapping[str, Permit]] = {}

    # what a bus does differently

    @property
    def hold(self) -> timedelta:
        """How long a delivery is put off whose handler is held."""
        return HOLD

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
        while not self._is_over():
            began = time.monotonic()
            try:
                self._look_around()
                self.open()
                self.consuming, self.error = True, ""
                logger.info("Consuming the bus %s: %s", self.bus.alias, ", ".join(sorted(self.groups)))
                self._loop()
            except Exception as error:
                self._note(error)
            finally:
                self.consuming = False
                self.shut()
            if time.monotonic() - began > MAX_BACKOFF_SECONDS:
                backoff = MIN_BACKOFF_SECONDS
            self._rest(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
        with self.turn():
            self._tally.flush()

    def _loop(self) -> None:
        while True:
            busy = self._settle_done()
            self._tell_overdue()
            self._look_around()
            self.keep()
            if not self.draining.is_set():
                busy = self._fill() or busy
            elif self._again:
                self._give_back_again()
            if self._is_over():
                return
            self.idle(busy)

    def _tell_overdue(self) -> None:
        """Log each call that is over its time limit and goes on, once. Children end theirs."""
        late = set(overdue(self.bus.alias))
        for each in late - self._told:
            logger.warning("%s; this pool cannot end it", each)
        self._told = late

    def _look_around(self) -> None:
        """Read which handlers are held, and write what was counted; both rarely."""
        if self.gate.is_due or self._tally.is_due:
            with self.turn():
                if self.gate.is_due:
                    self.gate.look()
                if self._tally.is_due:
                    self._tally.flush()

    def _is_over(self) -> bool:
        return self.stopping.is_set() or (self.draining.is_set() and not self.unfinished())

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._is_over():
            self.stopping.wait(0.1)

    def drain(self) -> None:
        """Fetch nothing more; what is in flight goes on. The thread ends when that is settled."""
        self.draining.set()
        self.wake()

    def unfinished(self) -> bool:
        """Whether something is in flight, or not settled yet."""
        return bool(self.in_flight or self._again)

    def stop(self, timeout: float | None = None) -> None:
        self.stopping.set()
        self.wake()
        super().stop(timeout)

    def finding(self) -> health.Finding:
        """What this consumer says about itself."""
        name = f"messaging.consumer.{self.bus.label}"
        data = {
            "groups": list(handlers.on_bus(self.bus.alias)),
            "in_flight": len(self.in_flight),
            "settled": self.handled,
        }
        if self.gate.held:
            data["held"] = sorted(self.gate.held)
        if not self.consuming and not self.error and self.is_alive():
            return health.Finding(name, "degraded", "starting", critical=True, data=data)
        if not (self.consuming and self.is_alive()):
            return health.Finding(name, "unhealthy", self.error or "not consuming", critical=True, data=data)
        late = "; ".join(map(str, overdue(self.bus.alias)))
        if self.trouble or late or self.draining.is_set():
            return health.Finding(name, "degraded", self.trouble or late or "draining", critical=True, data=data)
        return health.Finding(name, "healthy", "consuming", critical=True, data=data)

    def _fill(self) -> bool:
        """Hand over batches until the pool has enough, all groups in turn."""
        submitted = False
        while self._again and self._has_room():
            submitted = self._submit(self._again.popleft()) or submitted
        if not self._has_room():
            return submitted
        waiting = set(self.waiting_groups())
        for _ in range(len(self.groups)):
            if not self._has_room():
                break  # whose turn it is now begins the next round: a busy pool must not starve the later groups
            group = self.groups[0]
            self.groups.rotate(-1)
            while group in waiting and self._has_room() and not self.gate.is_shut(group):
                if not self._take(group):
                    break
                submitted = True
                if len(self.groups) > 1:
                    break  # the next group's turn
        return submitted

    def _take(self, group: str) -> bool:
        """Fetch deliveries of ``group`` and hand them over; what is too large for one batch waits for its turn."""
        limit = 1 if self.gate.is_probing(group) else self._pace.limit(group)
        fetched = parts(self.fetch(group, limit), partial(self._limits_of, group))
        batches = [Batch(self.bus.alias, group, part, limits) for limits, part in fetched]
        self._again.extend(batches[1:])
        return bool(batches) and self._submit(batches[0])

    def _find_limits(self, group: str, alias: str) -> Limits:
        found = handlers.find(self.bus.alias, group, alias)
        return found.limits if found else NO_LIMITS

    def _has_room(self) -> bool:
        return len(self.in_flight) < self.pool.size + AHEAD

    def _submit(self, batch: Batch) -> bool:
        with self._guarded():
            admission = self.gate.admit(batch)
        if admission.held:
            self._set_aside(admission.held, batch)
        batch = admission.batch
        if not batch.deliveries:
            return True
        number = next(self._numbers)
        self.in_flight[number], self._permits[number] = batch, admission.permits

        def done(_batch: Batch, verdicts: list[Verdict] | None) -> None:
            self._done.append((number, verdicts))
            self.wake()

        if self.pool.submit(batch, done):
            return True
        del self.in_flight[number]
        self._conclude(number, [])
        self.give_back(batch.deliveries)
        self.draining.set()
        return False

    def _set_aside(self, held: tuple[tuple[Delivery, Verdict], ...], batch: Batch) -> None:
        """Settle deliveries of held handlers like those that were handled, in the next turn."""
        number = next(self._numbers)
        self.in_flight[number] = replace(batch, deliveries=tuple(delivery for delivery, _ in held))
        self._judged[number] = list(held)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Where a breaker may have to be read or written it takes a turn of the database."""
        if self.gate.is_guarded:
            with self.turn():
                yield
        else:
            yield

    def _conclude(self, number: int, verdicts: list[Verdict]) -> None:
        permits = self._permits.pop(number, {})
        if permits:
            with self.turn():
                self.gate.conclude(permits, verdicts)

    def _settle_done(self) -> bool:
        while self._done:
            number, verdicts = self._done.popleft()
            judged = self._judge(self.in_flight[number], verdicts)
            self._judged[number] = judged
            self._tally.note(verdict for _, verdict in judged)
            self._conclude(number, [verdict for _, verdict in judged])
        settled = [pair for pairs in self._judged.values() for pair in pairs if pair[1].outcome != "alone"]
        if settled:
            with span("messaging.settle", bus=self.bus.alias, messages=len(settled)):
                _BEFORE_SETTLE()
                self.settle(settled)
            self.handled += len(settled)
        over, self._judged = self._judged, {}
        for number, pairs in over.items():  # only now: a drain must not end before its work is settled
            batch = self.in_flight.pop(number)
            alone = [delivery for delivery, verdict in pairs if verdict.outcome == "alone"]
            self._again.extend(replace(batch, deliveries=(each,)) for each in alone)
        return bool(over)

    def _judge(self, batch: Batch, verdicts: list[Verdict] | None) -> list[tuple[Delivery, Verdict]]:
        """Pair deliveries with verdicts. Of several whose child died each is run alone."""
        if verdicts is not None and len(verdicts) == len(batch.deliveries):
            self._pace.note(batch.group, verdicts[0].seconds)
            return list(zip(batch.deliveries, verdicts, strict=True))
        emit("messaging.child_lost", bus=self.bus.alias, group=batch.group, messages=len(batch.deliveries))
        if len(batch.deliveries) > 1:
            return [(each, Verdict("alone")) for each in batch.deliveries]
        delivery = batch.deliveries[0]
        error = WorkerLostError(
            "the worker's child died while it handled the message",
            why="it was killed, ran out of memory, or the handler ended the process",
        )
        found = handlers.find(batch.bus, batch.group, delivery.envelope.alias)
        return [(delivery, failed(delivery, found, error))]

    def _give_back_again(self) -> None:
        self.give_back([delivery for batch in self._again for delivery in batch.deliveries])
        self._again.clear()

    def _note(self, error: Exception) -> None:
        text = redact_text(f"{type(error).__name__}: {error}")
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
            if verdict.outcome in kinds and verdict.reason != HELD
        )
