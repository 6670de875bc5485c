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

from .bridge import DeadLetterBridge
from .link import Link
from .outlet import Outlet
from .properties import from_amqp
from .topology import declare
from .window import AckWindow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.messaging.buses.base import Pool
    from koan_django.messaging.verdicts import Verdict

    from .bus import AmqpBus

logger = logging.getLogger(__name__)

#: How long a change of credentials waits for handlers at work; what they do not finish is handed out again.
RENEW_SECONDS = 30.0


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
        self._cancelled = False
        self._renew_by = 0.0

    # connecting

    def open(self) -> None:
        self._link.connect()
        self._generation += 1
        self._cancelled = False
        groups = handlers.on_bus(self.bus.alias)
        for group in groups:  # deliveries of the first channel arrive while the second is opened
            self._windows[group], self._waiting[group] = AckWindow(), deque()
        channel = self._link.channel()
        declare(channel, self.bus.topology())
        channel.close()
        for group in groups:
            self._channels[group] = self._link.channel()
        self._bridge.open(self._link.channel(), list(groups))
        for group in groups:
            self._consume(group)

    def _consume(self, group: str) -> None:
        channel = self._channels[group]
        channel.basic_qos(0, (self.pool.size + AHEAD + 1) * self.bus.options.batch, False)
        arrived = partial(self._arrived, group, self._generation)
        channel.basic_consume(self.bus.names.group(group), callback=arrived, consumer_tag=f"koan.{group}")

    def _arrived(self, group: str, generation: int, message: Any) -> None:
        if generation != self._generation:
            return
        self._windows[group].deliver(message.delivery_tag)
        ref = Ref(generation, message.delivery_tag)
        self._waiting[group].append(Delivery(from_amqp(message, group), self.bus.alias, group, ref=ref))

    def shut(self) -> None:
        self._generation += 1
        self._channels, self._windows, self._waiting = {}, {}, {}
        self._again.clear()
        self._outlet.forget()
        self._link.disconnect()

    def stop(self, timeout: float | None = None) -> None:
        super().stop(timeout)
        if not self.is_alive():
            self._link.close()

    # fetching

    def waiting_groups(self) -> Iterable[str]:
        return [group for group, waiting in self._waiting.items() if waiting]

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        waiting = self._waiting[group]
        return [waiting.popleft() for _ in range(min(limit, len(waiting)))]

    def keep(self) -> None:
        if self.draining.is_set() and not self._cancelled:
            self._cancelled = True
            self._cancel()
        self.trouble = self._bridge.turn(self.turn) or self._outlet.trouble
        for delivery in self._outlet.confirmed():
            self._windows[delivery.group].settle(delivery.ref.tag)
        self._acknowledge()
        if self._link.stale and not self.draining.is_set():
            self._renew()

    def _renew(self) -> None:
        """Connect with other credentials: once what was fetched is settled, or without waiting longer for it."""
        if not self._cancelled:
            self._cancelled, self._renew_by = True, time.monotonic() + RENEW_SECONDS
            self._cancel()
        elif not self.unfinished() or time.monotonic() > self._renew_by:
            self.shut()
            self.open()
            logger.info("The bus %s is consumed with other credentials", self.bus.alias)

    def _cancel(self) -> None:
        """Take no more; what was fetched and not handed to the pool goes back."""
        for group, channel in self._channels.items():
            channel.basic_cancel(f"koan.{group}")
        for waiting in self._waiting.values():
            self.give_back(waiting)
            waiting.clear()

    def unfinished(self) -> bool:
        """Without a connection nothing can be settled: the broker hands it out again."""
        if not self.consuming:
            return False
        return super().unfinished() or any(len(window) for window in self._windows.values())

    def idle(self, busy: bool) -> None:
        self._link.wait(0 if busy else 1.0)

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
