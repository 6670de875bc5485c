"""Consumes a bus on RabbitMQ.

One connection of its own, one channel per group. A delivery is acknowledged after its handler's transaction, and after
the confirm of its retry or dead letter when there is one. Deliveries carry the generation of their connection: what
finishes after the connection was lost is dropped, since its tags mean nothing on the next one and the broker has
handed the messages out again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import DatabaseError

from koan_django.messaging import handlers
from koan_django.messaging.consumer import AHEAD, Consumer
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.provisioning.starting import provision

from .bridge import DeadLetterBridge
from .link import Link
from .outlet import Outlet
from .properties import from_amqp
from .window import AckWindow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from koan_django.messaging.buses.base import Pool
    from koan_django.messaging.verdicts import Verdict

    from .bus import AmqpBus

logger = logging.getLogger(__name__)

#: How long a change of credentials waits for handlers at work; what they do not finish is handed out again.
RENEW_SECONDS = 30.0
#: Nobody wakes it for a handler that was paused.
IDLE_SECONDS = 0.5


class Ref(NamedTuple):
    """How a delivery is known to its channel."""

    generation: int
    tag: int


class AmqpConsumer(Consumer):
    """The consuming thread of one bus in a worker's main process."""

    bus: AmqpBus

    def __init__(self, bus: AmqpBus, pool: Pool) -> None:
        super().__init__(bus, pool)
        self._link = Link(bus.options.url or "", "consumer")
        self._generation = 0
        self._channels: dict[str, Any] = {}
        self._windows: dict[str, AckWindow] = {}
        self._waiting: dict[str, deque[Delivery]] = {}
        self._outlet = Outlet(bus, self.wake)
        self._bridge = DeadLetterBridge(bus)
        #: Until when a change of credentials waits for handlers at work, while one is under way.
        self._renew_by = 0.0
        #: How many deliveries of each group may be here at once; none while it is not consumed.
        self._prefetch: dict[str, int] = {}
        #: What stands on the broker otherwise than it is wanted, and is used all the same.
        self._drift = ""

    # connecting

    def open(self) -> None:
        self._link.connect()
        self._generation += 1
        self._renew_by = 0.0
        groups = handlers.on_bus(self.bus.alias)
        for group in groups:  # deliveries of the first channel arrive while the second is opened
            self._windows[group], self._waiting[group] = AckWindow(), deque()
        self._drift = provision(self._link, self.bus, self.turn)
        for group in groups:
            self._channels[group] = self._link.channel()
        self._prefetch = dict.fromkeys(groups, 0)
        self._bridge.open(self._link.channel(), list(groups))
        self._adjust()

    def _adjust(self) -> None:
        """Consume each group as much as it may be: not at all while it is held or this worker drains or reconnects."""
        for group, before in self._prefetch.items():
            wanted = self._wanted(group)
            if wanted == before:
                continue
            self._prefetch[group] = wanted
            if before:
                self._cancel(group)
            if wanted:
                self._consume(group, wanted)

    def _wanted(self, group: str) -> int:
        if self.draining.is_set() or self._renew_by or self.gate.is_shut(group):
            return 0
        if self.gate.is_probing(group):
            return 1
        return (self.pool.size + AHEAD + 1) * self.bus.options.batch

    def _consume(self, group: str, prefetch: int) -> None:
        channel = self._channels[group]
        channel.basic_qos(0, prefetch, False)
        arrived = partial(self._arrived, group, self._generation)
        channel.basic_consume(self.bus.names.group(group), callback=arrived, consumer_tag=f"koan.{group}")

    def _cancel(self, group: str) -> None:
        """Take no more; what was fetched and not handed to the pool goes back."""
        self._channels[group].basic_cancel(f"koan.{group}")
        waiting = self._waiting[group]
        self.give_back(waiting)
        waiting.clear()

    def _arrived(self, group: str, generation: int, message: Any) -> None:
        if generation != self._generation:
            return
        self._windows[group].deliver(message.delivery_tag)
        ref = Ref(generation, message.delivery_tag)
        self._waiting[group].append(Delivery(from_amqp(message, group), self.bus.alias, group, ref=ref))

    def shut(self) -> None:
        self._generation += 1
        self._channels, self._windows, self._waiting, self._prefetch = {}, {}, {}, {}
        self._again.clear()
        self._outlet.forget()
        self._link.disconnect()

    def stop(self, timeout: float | None = None) -> None:
        super().stop(timeout)
        if not self.is_alive():
            self._link.close()

    @property
    def hold(self) -> timedelta:
        """As long as the longest bucket: each time costs the broker a publish."""
        return max(self.bus.options.retry.steps())

    # fetching

    def waiting_groups(self) -> Iterable[str]:
        return [group for group, waiting in self._waiting.items() if waiting]

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        waiting = self._waiting[group]
        return [waiting.popleft() for _ in range(min(limit, len(waiting)))]

    def keep(self) -> None:
        self._adjust()
        self.trouble = self._bridge.turn(self.turn) or self._outlet.trouble or self._drift
        for delivery in self._outlet.confirmed():
            self._windows[delivery.group].settle(delivery.ref.tag)
        self._acknowledge()
        if self._link.stale and not self.draining.is_set():
            self._renew()

    def _renew(self) -> None:
        """Connect with other credentials: once what was fetched is settled, or without waiting longer for it."""
        if not self._renew_by:
            self._renew_by = time.monotonic() + RENEW_SECONDS
            self._adjust()
        elif not self.unfinished() or time.monotonic() > self._renew_by:
            self.shut()
            self.open()
            logger.info("The bus %s is consumed with other credentials", self.bus.alias)

    def unfinished(self) -> bool:
        """Without a connection nothing can be settled: the broker hands it out again."""
        if not self.consuming:
            return False
        return super().unfinished() or any(len(window) for window in self._windows.values())

    def idle(self, busy: bool) -> None:
        self._link.wait(0 if busy else IDLE_SECONDS)

    def wake(self) -> None:
        self._link.wake()

    # settling

    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        mine = [(d, v) for d, v in settled if self._is_current(d)]
        for delivery, verdict in mine:
            if verdict.outcome in ("handled", "duplicate"):
                self._windows[delivery.group].settle(delivery.ref.tag)
            elif verdict.outcome == "again":
                self.give_back([delivery])
            else:
                self._outlet.publish(delivery, verdict)
        self._acknowledge()
        self._note_troubled([(d, v) for d, v in mine if v.outcome in ("retry", "postpone")])

    def _note_troubled(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        """Add to the trail. The messages are on their way, so a database that is away costs their events only."""
        try:
            with self.turn():
                self.record(settled)
        except DatabaseError as error:
            logger.warning("%d events of retried messages were not written: %s", len(settled), error)

    def _acknowledge(self) -> None:
        for group, window in self._windows.items():
            mark = window.advance()
            if mark is not None:
                self._channels[group].basic_ack(mark, multiple=True)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            if self._is_current(delivery) and self._windows[delivery.group].reject(delivery.ref.tag):
                self._channels[delivery.group].basic_reject(delivery.ref.tag, requeue=True)

    def _is_current(self, delivery: Delivery) -> bool:
        ref: Ref = delivery.ref
        return ref.generation == self._generation
