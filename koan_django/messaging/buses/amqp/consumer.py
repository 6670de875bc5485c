"""Consumes a bus on RabbitMQ.

One connection of its own, one channel per group. A delivery is acknowledged after its handler's transaction, and after
the confirm of its retry or dead letter when there is one. Deliveries carry the generation of their connection: what
finishes after the connection was lost is dropped, since its tags mean nothing on the next one and the broker has
handed the messages out again.
"""

from __future__ import annotations

import random
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from koan_django.core.telemetry import emit
from koan_django.messaging import handlers
from koan_django.messaging.consumer import AHEAD, Consumer
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.exceptions import PublishError

from . import topology
from .bridge import DeadLetterBridge, dead_headers
from .link import Link
from .properties import from_amqp, to_amqp
from .publisher import Publication
from .window import AckWindow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from koan_django.messaging.buses.base import Pool
    from koan_django.messaging.buses.broker import Outcome
    from koan_django.messaging.verdicts import Verdict

    from .bus import AmqpBus


class Ref(NamedTuple):
    """How a delivery is known to its channel."""

    generation: int
    tag: int


class AmqpConsumer(Consumer):
    """The consuming thread of one bus in a worker's main process."""

    bus: AmqpBus

    def __init__(self, bus: AmqpBus, pool: Pool) -> None:
        super().__init__(bus, pool)
        self._link = Link(bus.options.url, "consumer")
        self._generation = 0
        self._channels: dict[str, Any] = {}
        self._windows: dict[str, AckWindow] = {}
        self._waiting: dict[str, deque[Delivery]] = {}
        self._confirmed: deque[tuple[Delivery, Outcome]] = deque()
        self._bridge = DeadLetterBridge(bus)
        self._cancelled = False

    # connecting

    def open(self) -> None:
        self._link.connect()
        self._generation += 1
        self._channels, self._windows, self._waiting, self._cancelled = {}, {}, {}, False
        groups = handlers.on_bus(self.bus.alias)
        for group in groups:  # deliveries of the first channel arrive while the second is opened
            self._windows[group], self._waiting[group] = AckWindow(), deque()
        self._declare(groups)
        for group in groups:
            self._channels[group] = self._link.channel()
        self._bridge.open(self._link.channel(), list(groups))
        for group in groups:
            self._consume(group)

    def _declare(self, groups: dict[str, list[handlers.Handler]]) -> None:
        channel = self._link.channel()
        topology.declare_exchange(channel, self.bus.names)
        for group, members in groups.items():
            topology.declare_group(channel, self.bus.names, group, [member.binding for member in members])
        topology.declare_retries(channel, self.bus.names, self.bus.options.retry.steps())
        channel.close()

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
        self._channels = {}
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
        self._bridge.turn(self.turn)
        while self._confirmed:
            self._after_publish(*self._confirmed.popleft())
        self._acknowledge()

    def _cancel(self) -> None:
        """Take no more; what was fetched and not handed to the pool goes back."""
        for group, channel in self._channels.items():
            channel.basic_cancel(f"koan.{group}")
        for waiting in self._waiting.values():
            self.give_back(waiting)
            waiting.clear()

    def idle(self, busy: bool) -> None:
        self._link.wait(0 if busy else 1.0)

    def wake(self) -> None:
        self._link.wake()

    # settling

    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        mine = [(d, v) for d, v in settled if d.ref.generation == self._generation]
        for delivery, verdict in mine:
            if verdict.outcome in ("handled", "duplicate"):
                self._windows[delivery.group].settle(delivery.ref.tag)
            elif verdict.outcome == "again":
                self.give_back([delivery])
            else:
                self._publish(delivery, verdict)
        with self.turn():
            self.record([(d, v) for d, v in mine if v.outcome in ("retry", "postpone")])
        self._acknowledge()

    def _publish(self, delivery: Delivery, verdict: Verdict) -> None:
        """Publish the retry or the dead letter; the delivery is acknowledged once that is confirmed."""
        names, envelope = self.bus.names, delivery.envelope
        if verdict.outcome == "dead":
            exchange, key = "", names.dead(delivery.group)
            message = to_amqp(envelope, dead_headers(verdict))
        else:
            tried = envelope.next_attempt() if verdict.outcome == "retry" else envelope
            exchange, key = names.retry(self._bucket(verdict.wait)), names.group(delivery.group)
            message = to_amqp(tried)
        done = partial(self._published, delivery)
        self.bus.publisher.submit([Publication(exchange, key, message, done)])

    def _bucket(self, wait: timedelta) -> timedelta:
        """The longest bucket within ``wait``, or at random the next one: a bucket cannot be jittered."""
        steps = self.bus.options.retry.steps()
        index = max((i for i, step in enumerate(steps) if step <= wait), default=0)
        if index + 1 < len(steps) and random.random() < self.bus.options.retry.jitter:  # noqa: S311  # spreads load
            index += 1
        return steps[index]

    def _published(self, delivery: Delivery, outcome: Outcome) -> None:
        """Called on the publisher's thread."""
        self._confirmed.append((delivery, outcome))
        self.wake()

    def _after_publish(self, delivery: Delivery, outcome: Outcome) -> None:
        if delivery.ref.generation != self._generation:
            return
        if outcome.state == "confirmed":
            self._windows[delivery.group].settle(delivery.ref.tag)
            return
        # Not acknowledged, so nothing is lost: a new connection gets the message again.
        emit("messaging.settle_failed", bus=self.bus.alias, reason=outcome.reason)
        raise PublishError(f"a retry or dead letter of {delivery.group!r} was not published", why=outcome.reason)

    def _acknowledge(self) -> None:
        for group, window in self._windows.items():
            mark = window.advance()
            if mark is not None:
                self._channels[group].basic_ack(mark, multiple=True)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.ref.generation == self._generation and self._windows[delivery.group].reject(delivery.ref.tag):
                self._channels[delivery.group].basic_reject(delivery.ref.tag, requeue=True)

    @property
    def is_busy(self) -> bool:
        """Whether something is in flight, settled without its acknowledgement, or fetched and not given back."""
        unsettled = self._confirmed or any(len(window) for window in self._windows.values())
        return super().is_busy or (self.is_alive() and self.consuming and bool(unsettled))
