"""Consumes a bus on RabbitMQ.

One connection of its own, one channel per queue: that of each group, and those of the partitions that this worker
handles. A delivery is acknowledged after its handler's transaction, and after
the confirm of its retry or dead letter when there is one. Deliveries carry the generation of their connection: what
finishes after the connection was lost is dropped, since its tags mean nothing on the next one and the broker has
handed the messages out again. A channel that is closed gives back what it had in its order, which single rejects of
what is fetched and what failed would not.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from django.db import DatabaseError

from koan_django.core.texts import counted
from koan_django.messaging import handlers
from koan_django.messaging.control.gate import HELD
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.handling.consumer import AHEAD
from koan_django.messaging.handling.fairness import Share
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.ordering.lines import Lane
from koan_django.messaging.ordering.sharing import SharingConsumer
from koan_django.messaging.provisioning.starting import provision

from .bridge import DeadLetterBridge
from .link import Link
from .outlet import Outlet
from .properties import from_amqp
from .topology import Topology, declare, partition_queue
from .watchdog import Watchdog, cancelled, taken_back
from .window import AckWindow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from koan_django.messaging.buses.base import Pool

    from .bus import AmqpBus

logger = logging.getLogger(__name__)

#: How long a change of credentials waits for handlers at work; what they do not finish is handed out again.
RENEW_SECONDS = 30.0
#: Nobody wakes it for a handler that was paused.
IDLE_SECONDS = 0.5
#: How long what was fetched for a group that is held stays here. Each time that it goes back counts as a delivery, and
#: the broker gives up on whoever keeps it for half an hour.
#: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
KEEP_SECONDS = 600.0


#: What is fetched from: the queue of a group, or that of one of its partitions.
Source: TypeAlias = str | Lane


class Ref(NamedTuple):
    """How a delivery is known to its channel."""

    generation: int
    tag: int


class AmqpConsumer(SharingConsumer):
    """The consuming thread of one bus in a worker's main process."""

    bus: AmqpBus

    def __init__(self, bus: AmqpBus, pool: Pool) -> None:
        super().__init__(bus, pool)
        #: What this consumer may have of a pool that several share.
        self._share = pool if isinstance(pool, Share) else None
        if self._share is not None:
            self._share.wake = self.wake
        self._link = Link(bus.options.url or "", "consumer")
        self._numbers_of_channels, self._numbers_of_tags = count(1), count(1)
        self._tags: dict[Source, str] = {}
        self._generations: dict[Source, int] = {}
        self._channels: dict[Source, Any] = {}
        self._windows: dict[Source, AckWindow] = {}
        self._waiting: dict[Source, deque[Delivery]] = {}
        #: How many dead letters of a lane the broker has not confirmed yet.
        self._publishing: Counter[Lane] = Counter()
        self._outlet = Outlet(bus, self.wake)
        self._bridge = DeadLetterBridge(bus)
        self._watchdog = Watchdog()
        #: Until when a change of credentials waits for handlers at work, while one is under way.
        self._renew_by = 0.0
        #: How many deliveries of each group may be here at once; none while it is not consumed.
        self._prefetch: dict[str, int] = {}
        #: Since when a group is held.
        self._held_since: dict[str, float] = {}
        #: Lanes of groups that are held for long: nothing of them is here.
        self._resting: set[Lane] = set()
        #: What stands on the broker otherwise than it is wanted, and is used all the same.
        self._drift = ""

    # connecting

    def open(self) -> None:
        self._link.connect()
        if not self.consuming:
            self.advance("connected")
        self._renew_by = 0.0
        self.suspended = False
        groups = handlers.on_bus(self.bus.alias)
        self._drift = provision(self._link, self.bus, self.turn)
        self._declare_partitions()
        for group in groups:
            self._prepare(group)
        self._prefetch = dict.fromkeys(groups, 0)
        self._bridge.open(self._link.channel(), list(groups))
        self._watchdog.open(self._link.channel())
        self._adjust()

    def _adjust(self) -> None:
        """Consume each group as much as it may be: not at all while it is held or this worker drains or reconnects."""
        for group, before in self._prefetch.items():
            self._note_held(group)
            wanted = self._wanted(group)
            if wanted != before:
                if before:
                    self._channels[group].basic_cancel(self._tags[group])
                # What was kept comes first.
                self._prefetch[group] = wanted if wanted > len(self._waiting[group]) else 0
                if self._prefetch[group]:
                    self._consume(group, wanted)
            if not wanted and self._waiting[group]:
                self._let_go(group)
        self._rest_lanes()

    def _note_held(self, group: str) -> None:
        if self.gate.is_shut(group):
            self._held_since.setdefault(group, time.monotonic())
        else:
            self._held_since.pop(group, None)

    def _is_held_for_long(self, group: str) -> bool:
        return time.monotonic() - self._held_since.get(group, float("inf")) >= KEEP_SECONDS

    def _let_go(self, group: str) -> None:
        """Give back what was fetched and not handed to the pool when this worker leaves the group.

        While the group is held it stays here, and after long goes to the end of its queue as a new message: nobody has
        tried it, so it must come no nearer to the limit of deliveries.
        """
        waiting = self._waiting[group]
        if self.draining.is_set() or self._renew_by:
            self.give_back(waiting)
        elif self._is_held_for_long(group):
            for delivery in waiting:
                self._outlet.publish(delivery, Verdict("postpone", reason=HELD))
        else:
            return
        waiting.clear()

    def _rest_lanes(self) -> None:
        """Have nothing here of the lanes of a group that is held for long; it goes back in its order."""
        for lane, line in self.lines.items():
            if lane in self._resting:
                if lane.group not in self._held_since:
                    self._resting.remove(lane)
                    self._consume_lane(lane)
            elif self._is_held_for_long(lane.group) and not line.running and self.is_settled(lane):
                line.waiting.clear()
                self._channels[lane].close()
                self._prepare(lane)
                self._resting.add(lane)

    def _wanted(self, group: str) -> int:
        if self.draining.is_set() or self._renew_by or self.gate.is_shut(group):
            return 0
        if self.gate.is_probing(group):
            return 1
        return (self.pool.size + AHEAD + 1) * self.bus.options.batch

    def _declare_partitions(self) -> None:
        """Have a row for each partition, and the queues of those that there were before with a higher number."""
        if not self.shares.groups:
            return
        with self.turn():
            self.shares.declare()
            numbers = self.shares.numbers()
        former = [(group, n) for group, known in numbers.items() for n in known if n >= self.bus.options.partitions]
        if former:
            channel = self._link.channel()
            queues = tuple(partition_queue(self.bus.names, *each) for each in former)
            declare(channel, Topology(queues=queues), passive=not self.bus.options.declares)
            channel.close()

    def _prepare(self, source: Source) -> None:
        """Deliveries of the first channel arrive while the second is opened: have a place for them before."""
        self._windows[source], self._waiting[source] = AckWindow(in_turns=isinstance(source, Lane)), deque()
        self._generations[source] = next(self._numbers_of_channels)
        self._channels[source] = self._link.channel()

    def _consume(self, source: Source, prefetch: int) -> None:
        channel, queue = self._channels[source], self._queue(source)
        channel.basic_qos(0, prefetch, False)
        arrived, gone = partial(self._arrived, source, self._generations[source]), partial(cancelled, queue)
        # A name of its own each time: RabbitMQ 3.10 fails over a quorum queue whose consumer comes back under the name
        # that it was cancelled by while its messages are not settled.
        tag = self._tags[source] = f"koan.{source}.{next(self._numbers_of_tags)}"
        channel.basic_consume(queue, callback=arrived, consumer_tag=tag, on_cancel=gone)

    def _arrived(self, source: Source, generation: int, message: Any) -> None:
        if generation != self._generations.get(source):
            return
        self._windows[source].deliver(message.delivery_tag)
        group, partition = source if isinstance(source, Lane) else (source, None)
        ref = Ref(generation, message.delivery_tag)
        delivery = Delivery(from_amqp(message, group), self.bus.alias, group, ref=ref, partition=partition)
        self._waiting[source].append(delivery)

    def open_lane(self, lane: Lane) -> None:
        self._prepare(lane)
        self._consume_lane(lane)

    def _consume_lane(self, lane: Lane) -> None:
        self._consume(lane, 2 * self.bus.options.batch)

    def close_lane(self, lane: Lane) -> None:
        self._resting.discard(lane)
        for known in (self._generations, self._windows, self._waiting, self._publishing):
            known.pop(lane, None)
        self._channels.pop(lane).close()

    def is_settled(self, lane: Lane) -> bool:
        return not self._publishing[lane]

    def shut(self) -> None:
        self._generations, self._channels, self._windows, self._waiting = {}, {}, {}, {}
        self._publishing.clear()
        self._prefetch = {}
        self._resting.clear()
        self._again.clear()
        self._outlet.forget()
        self._link.disconnect()
        super().shut()

    @property
    def hold(self) -> timedelta:
        """As long as the longest bucket: each time costs the broker a publish."""
        return max(self.bus.options.retry.steps())

    # fetching

    def _has_room(self) -> bool:
        if not super()._has_room():
            return False
        return self._share is None or self._share.has_room(wanted=bool(self._again) or self._has_work)

    @property
    def _has_work(self) -> bool:
        """Whether something waits here that nobody holds back."""
        return any(
            waiting and not self.gate.is_shut(source.group if isinstance(source, Lane) else source)
            for source, waiting in self._waiting.items()
        )

    def waiting_groups(self) -> Iterable[str]:
        return [source for source, waiting in self._waiting.items() if waiting and not isinstance(source, Lane)]

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        return self._popped(group, limit)

    def ready_lanes(self) -> Iterable[Lane]:
        return [lane for lane in self.lines if self._waiting[lane]]

    def fetch_lane(self, lane: Lane, limit: int) -> list[Delivery]:
        return self._popped(lane, limit)

    def _popped(self, source: Source, limit: int) -> list[Delivery]:
        waiting = self._waiting[source]
        return [waiting.popleft() for _ in range(min(limit, len(waiting)))]

    def _note(self, error: Exception) -> None:
        super()._note(taken_back(error, (batch.group for batch in self.in_flight.values())))

    def keep(self) -> None:
        self._adjust()
        self.trouble = self._bridge.turn(self.turn) or self._outlet.trouble or self._drift
        for delivery in self._outlet.confirmed():
            if self._is_current(delivery):
                self._windows[_source(delivery)].settle(delivery.ref.tag)
                if delivery.partition is not None:
                    self._publishing[Lane(delivery.group, delivery.partition)] -= 1
        self._acknowledge()
        self._watchdog.turn(self._consumed())
        if self._link.stale and not self.draining.is_set():
            self._renew()

    def _consumed(self) -> dict[str, AckWindow]:
        """What is consumed now, by the name of the queue."""
        return {
            self._queue(source): window
            for source, window in self._windows.items()
            if isinstance(source, Lane) or self._prefetch.get(source)
        }

    def _queue(self, source: Source) -> str:
        return self.bus.names.partition(*source) if isinstance(source, Lane) else self.bus.names.group(source)

    def _renew(self) -> None:
        """Connect with other credentials: once what was fetched is settled, or without waiting longer for it."""
        if not self._renew_by:
            self.suspended = True
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
        # In a turn each group hands over once. When nothing is left, more comes as frames or with a wake-up.
        self._link.wait(0 if self._judged or (busy and self._has_work) else IDLE_SECONDS)

    def wake(self) -> None:
        self._link.wake()

    # settling

    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        mine = [(d, v) for d, v in settled if self._is_current(d)]
        for delivery, verdict in mine:
            if verdict.outcome in ("handled", "duplicate"):
                self._windows[_source(delivery)].settle(delivery.ref.tag)
            elif verdict.outcome == "again":
                self.give_back([delivery])
            else:
                if delivery.partition is not None:
                    self._publishing[Lane(delivery.group, delivery.partition)] += 1
                self._outlet.publish(delivery, verdict)
        self._acknowledge()
        self._note_troubled([(d, v) for d, v in mine if v.outcome in ("retry", "postpone")])

    def _note_troubled(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        """Add to the trail. The messages are on their way, so a database that is away costs their events only."""
        try:
            with self.turn():
                self.record(settled)
        except DatabaseError as error:
            logger.warning(
                "Of retried messages %s not written: %s", counted(len(settled), "event was", "events were"), error
            )

    def _acknowledge(self) -> None:
        for source, window in self._windows.items():
            mark = window.advance()
            if mark is not None:
                self._channels[source].basic_ack(mark, multiple=True)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            source = _source(delivery)
            if self._is_current(delivery) and self._windows[source].reject(delivery.ref.tag):
                self._channels[source].basic_reject(delivery.ref.tag, requeue=True)

    def _is_current(self, delivery: Delivery) -> bool:
        ref: Ref = delivery.ref
        return ref.generation == self._generations.get(_source(delivery))


def _source(delivery: Delivery) -> Source:
    return delivery.group if delivery.partition is None else Lane(delivery.group, delivery.partition)
