"""The thread that feeds a worker's pool from one bus.

It fetches deliveries group by group, hands them to the pool in batches, keeps their leases alive and settles them by
the pool's verdicts. What a bus does differently is in :class:`~.intake.Intake`, which its subclass fills in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count, takewhile
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError

from koan_django.core import faults, health, hints
from koan_django.core.redaction import redact_text
from koan_django.core.telemetry import emit, span
from koan_django.core.texts import one_line
from koan_django.messaging import handlers, lifecycle
from koan_django.messaging.buses.base import Batch
from koan_django.messaging.control.gate import Gate
from koan_django.messaging.control.tallying import Tally
from koan_django.messaging.exceptions import BusUnavailableError, WorkerLostError
from koan_django.messaging.ordering.lines import OVER, Lane, Line

from .findings import finding_of
from .intake import Intake
from .limits import NO_LIMITS, overdue
from .pacing import Pace, parts
from .verdicts import Verdict, failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from koan_django.core.circuits import Permit
    from koan_django.messaging.buses.base import Bus, Pool
    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.lifecycle import State

    from .limits import Limits, Overdue

logger = logging.getLogger(__name__)

#: More batches than children keep the pool busy while verdicts travel back.
AHEAD = 1
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 15.0
#: In a partition what is behind a held handler waits here, and is looked at again after so long.
HELD_SECONDS = 1.0
#: While there is always something to hand over, the rest is seen to as often.
KEEP_SECONDS = 0.05
_BEFORE_SETTLE = faults.point("messaging.consumer.before_settle")


class Consumer(Intake):
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
        #: Which partitions wait for somebody's decision.
        self.stopped = ""
        self.consuming = False
        #: It has consumed, or was kept from it by something else than a broker that is away.
        self.has_begun = False
        #: When the thread was last seen to move, by the monotonic clock; another thread compares it.
        self.moved = time.monotonic()
        self.handled = 0
        self._numbers = count()
        self._done: deque[tuple[int, list[Verdict] | None]] = deque()
        self._judged: dict[int, list[tuple[Delivery, Verdict]]] = {}
        self._again: deque[Batch] = deque()
        groups = handlers.on_bus(bus.alias)
        self.groups: deque[str] = deque(groups)
        self._limits_of = lru_cache(maxsize=4096)(self._find_limits)
        self._told: set[Overdue] = set()
        self.ordered = handlers.ordered_on(bus.alias) if bus.capabilities.ordered else frozenset()
        self.lines = {}
        self._running: dict[int, Line] = {}
        self._lanes_first = False
        wanted = {group: max(member.batch or 1 for member in members) for group, members in groups.items()}
        self._pace = Pace(wanted, bus.options.batch)
        self.gate = Gate(bus.alias, self.hold)
        self._tally = Tally(bus.alias)
        self._permits: dict[int, Mapping[str, Permit]] = {}

    # the loop

    def work(self) -> None:
        backoff = MIN_BACKOFF_SECONDS
        self.advance("registered")
        while not self._is_over():
            began = self.moved = time.monotonic()
            try:
                self._look_around()
                self.open()
                self.consuming, self.has_begun, self.error = True, True, ""
                logger.info("Consuming the bus %s: %s", self.bus.label, ", ".join(sorted(self.groups)))
                emit("messaging.live", bus=self.bus.alias, broker=self.bus.label)
                self.advance("live")
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
            self._tally.flush(everything=True)

    def _loop(self) -> None:
        kept = float("-inf")
        while True:
            self.moved = time.monotonic()
            busy = self._settle_done()
            self.tend()
            submitted = False
            if not self.draining.is_set():
                submitted = self._fill()
            elif self._again:
                self._give_back_again()
            # What was handed over waits for this thread to wait: the pool's own needs the interpreter.
            if not submitted or self.moved - kept >= KEEP_SECONDS:
                kept = self.moved
                self._tell_overdue()
                self._look_around()
                self.keep()
            if self._is_over():
                return
            self.idle(busy or submitted)

    def _tell_overdue(self) -> None:
        """Log each call that is over its time limit and goes on, once. Children end theirs."""
        late = set(overdue(self.bus.alias))
        for each in late - self._told:
            logger.warning("%s; this pool cannot end it", one_line(each))
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
            self.moved = time.monotonic()
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
        return finding_of(self)

    def _fill(self) -> bool:
        """Hand over batches until the pool has enough, all groups in turn."""
        submitted = False
        while self._again and self._has_room():
            submitted = self._submit(self._again.popleft()) or submitted
        self._lanes_first = not self._lanes_first
        fillers = [self._fill_lanes, self._fill_groups]
        for fill in fillers if self._lanes_first else reversed(fillers):
            submitted = fill() or submitted
        return submitted

    def _fill_lanes(self) -> bool:
        """Hand over one batch of each partition that has something to do."""
        submitted = False
        if not self.lines or not self._has_room():
            return submitted
        ready = set(self.ready_lanes())
        for lane, line in list(self.lines.items()):
            if not self._has_room():
                break
            if not line.is_ready or self.gate.is_shut(lane.group):
                continue
            if (line.waiting or lane in ready) and self._take_lane(lane, line):
                submitted = True
                self.lines[lane] = self.lines.pop(lane)  # the others have their turn first
        return submitted

    def _take_lane(self, lane: Lane, line: Line) -> bool:
        limit = 1 if self.gate.is_probing(lane.group) else self._pace.limit(lane.group)
        if not line.waiting:
            line.waiting.extend(self.fetch_lane(lane, limit))
            if line.waiting and line.blocked_by:
                line.waiting[0] = self.remembered(lane, line.waiting[0])
        following = parts(line.next(limit), partial(self._limits_of, lane.group))
        if not following:
            return False
        limits, deliveries = following[0]
        batch = Batch(self.bus.alias, lane.group, deliveries, limits)
        verdict = self.condemned(lane, batch.deliveries[0])
        if verdict is not None:
            batch = replace(batch, deliveries=batch.deliveries[:1])
        line.start(len(batch.deliveries))
        return self._submit(batch, line, verdict)

    def _fill_groups(self) -> bool:
        """Hand over batches of what is in no order, all groups in turn."""
        submitted = False
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

    def _submit(self, batch: Batch, line: Line | None = None, verdict: Verdict | None = None) -> bool:
        permits: Mapping[str, Permit] = {}
        if verdict is None:
            with self._guarded():
                admission = self.gate.admit(batch)
            permits = admission.permits
            if line is None:
                if admission.held:
                    self._set_aside(admission.held, batch)
                batch = admission.batch
            elif admission.held:
                batch = self._before(admission.held, batch, line)
        number = next(self._numbers)
        self._permits[number] = permits
        if not batch.deliveries:
            self._conclude(number, [])
            return line is None
        self.in_flight[number] = batch
        if line is not None:
            self._running[number] = line
        if verdict is not None:  # nobody is asked
            self._done.append((number, [verdict]))
            return True

        def done(_batch: Batch, verdicts: list[Verdict] | None) -> None:
            self._done.append((number, verdicts))
            self.wake()

        if self.pool.submit(batch, done):
            return True
        del self.in_flight[number]
        self._conclude(number, [])
        self.draining.set()
        if self._running.pop(number, None) is None or line is None:
            self.give_back(batch.deliveries)
        else:  # its line goes back as a whole
            line.put_back(batch.deliveries, 0)
            line.running = False
        return False

    def _set_aside(self, held: tuple[tuple[Delivery, Verdict], ...], batch: Batch) -> None:
        """Settle deliveries of held handlers like those that were handled, in the next turn."""
        number = next(self._numbers)
        self.in_flight[number] = replace(batch, deliveries=tuple(delivery for delivery, _ in held))
        self._judged[number] = list(held)

    def _before(self, held: tuple[tuple[Delivery, Verdict], ...], batch: Batch, line: Line) -> Batch:
        """Return what comes before the first delivery whose handler is held; the others wait in their line."""
        delivery, verdict = held[0]
        index = next(index for index, each in enumerate(batch.deliveries) if each is delivery)
        line.put_back(batch.deliveries[index:], min(verdict.wait.total_seconds(), HELD_SECONDS))
        line.running = index > 0
        return replace(batch, deliveries=batch.deliveries[:index])

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
            batch = self.in_flight[number]
            judged = self._judge(batch, verdicts)
            self._judged[number] = self._in_order(number, batch, judged)
            self._tally.note(judged)
            self._conclude(number, [verdict for _, verdict in judged])
        settled = [pair for pairs in self._judged.values() for pair in pairs if pair[1].outcome != "alone"]
        if settled:
            with span("messaging.settle", bus=self.bus.alias, messages=len(settled)):
                _BEFORE_SETTLE()
                self.settle(settled)
            self.handled += len(settled)
        over, self._judged = self._judged, {}
        for number, pairs in over.items():  # only now: a drain must not end before its work is settled
            batch, line = self.in_flight.pop(number), self._running.pop(number, None)
            if line is not None:
                line.running = False
            alone = [delivery for delivery, verdict in pairs if verdict.outcome == "alone"]
            self._again.extend(replace(batch, deliveries=(each,)) for each in alone)
        return bool(over)

    def _in_order(
        self, number: int, batch: Batch, pairs: list[tuple[Delivery, Verdict]]
    ) -> list[tuple[Delivery, Verdict]]:
        """Of a partition, return those at the front that are over; the others go back to where they came from."""
        line, partition = self._running.get(number), batch.deliveries[0].partition
        if line is None or partition is None:
            return pairs
        lane = Lane(batch.group, partition)
        is_current = self.lines.get(lane) is line
        over = list(takewhile(lambda pair: pair[1].outcome in OVER, pairs))
        if not is_current:
            return over
        if over and line.blocked_by:
            line.blocked_by = ""
            self.passed(lane, line)
        if len(over) < len(pairs):
            rest, verdict = [delivery for delivery, _ in pairs[len(over) :]], pairs[len(over)][1]
            if verdict.outcome == "alone":
                line.put_back(rest, 0, alone=True)
            else:
                line.blocked_by = rest[0].envelope.id
                self.blocked(lane, line, rest, verdict)
        return over

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

    def advance(self, state: State, reason: str = "") -> None:
        """Say how far this bus has come."""
        with suppress(DatabaseError, InterfaceError), self.turn():
            lifecycle.move(self.bus, "consuming", state, reason)

    def _note(self, error: Exception) -> None:
        self.has_begun = self.has_begun or not isinstance(error, BusUnavailableError)
        text = one_line(redact_text(f"{type(error).__name__}: {error}"))
        if text != self.error:
            hint = hints.explain(error)
            advice = "" if hint is None or hint.transient else f". {hint.advice()}"
            logger.warning("The bus %s is not consumed: %s; trying again%s", self.bus.label, text, advice)
            emit("messaging.lost", bus=self.bus.alias, broker=self.bus.label, reason=text)
            self.error = text
            self.advance("waiting", text)
