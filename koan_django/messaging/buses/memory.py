"""The bus of tests and single processes: queues in this process's memory, lost when it ends."""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from django.db import transaction
from django.utils import timezone
from msgspec.structs import replace

from koan_django.messaging import events, handlers
from koan_django.messaging.dead.deadletters import dead_letter
from koan_django.messaging.envelope import Delivery, Envelope, Receipt
from koan_django.messaging.exceptions import UnroutableError
from koan_django.messaging.handling.consumer import Consumer
from koan_django.messaging.ordering.lines import Lane, Line
from koan_django.messaging.routing import partition_in

from .base import Bus, Capabilities, Depth, Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.handling.verdicts import Verdict

    from .base import Due


#: When it is due, its priority (the lowest number first), its number in the order of sending.
Entry: TypeAlias = tuple[datetime, int, int, Envelope]
Source: TypeAlias = str | Lane
#: The time of everything that is due, once it no longer matters since when.
_DUE = datetime.min.replace(tzinfo=UTC)


class MemoryBus(Bus):
    """A heap per group, by due time, priority and order of sending; one per partition, without priority."""

    capabilities = Capabilities(transactional=False, durable=False, shared=False, ordered=True, priorities=True)

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        self._queues: dict[Source, list[Entry]] = {}
        #: The groups to which a message of a priority was ever sent; most have none.
        self._prioritised: set[Source] = set()
        #: Which consumer has a partition.
        self._owners: dict[Lane, MemoryConsumer] = {}
        self._lock = threading.Lock()
        self._numbers = count()
        self.taken: dict[str, int] = {}
        self.arrived = threading.Event()

    def send(self, envelopes: Sequence[Envelope], due: Due, using: str | None = None) -> list[Receipt]:
        addressed = [
            (replace(envelope, group=group), group) for envelope in envelopes for group in self._groups(envelope)
        ]
        at = due if isinstance(due, datetime) else timezone.now() + (due or timedelta(0))
        for envelope, group in addressed:
            transaction.on_commit(partial(self.put, envelope, group, at), using=using)
        events.record((events.event("sent", self.alias, envelope) for envelope in envelopes), of=using)
        return [Receipt(envelope.id, "accepted", self.alias) for envelope in envelopes]

    def put(self, envelope: Envelope, group: str, due: datetime) -> None:
        """Queue ``envelope`` for ``group``."""
        source = self._source(envelope, group)
        priority = 0 if isinstance(source, Lane) else -envelope.priority
        self.put_back(source, (due, priority, next(self._numbers), envelope))

    def put_back(self, source: Source, entry: Entry) -> None:
        """Queue what was taken where it was."""
        with self._lock:
            if entry[1]:
                self._prioritised.add(source)
            heapq.heappush(self._queues.setdefault(source, []), entry)
        self.arrived.set()

    def take(self, source: Source, limit: int) -> list[Entry]:
        """Take up to ``limit`` entries that are due."""
        now = timezone.now()
        group = source.group if isinstance(source, Lane) else source
        with self._lock:
            queue = self._queues.get(source, [])
            found: list[Entry] = []
            if source in self._prioritised:
                _urgent_first(queue, now)
            while queue and queue[0][0] <= now and len(found) < limit:
                found.append(heapq.heappop(queue))
            self.taken[group] = self.taken.get(group, 0) + len(found)
        return found

    def own(self, lane: Lane, consumer: MemoryConsumer) -> bool:
        """Have ``consumer`` handle ``lane``, unless another one does."""
        with self._lock:
            return self._owners.setdefault(lane, consumer) is consumer

    def disown(self, lane: Lane) -> None:
        """Let another consumer handle ``lane``."""
        with self._lock:
            self._owners.pop(lane, None)

    def done(self, group: str) -> None:
        """Note that a taken envelope was settled."""
        with self._lock:
            self.taken[group] -= 1

    def with_work(self) -> list[Source]:
        """Return the groups and lanes that have something due."""
        now = timezone.now()
        with self._lock:
            return [source for source, queue in self._queues.items() if queue and queue[0][0] <= now]

    def _source(self, envelope: Envelope, group: str) -> Source:
        number = partition_in(envelope.routing_key)
        return group if number is None or group not in handlers.ordered_on(self.alias) else Lane(group, number)

    def consumer(self, pool: Pool) -> Consumer:
        return MemoryConsumer(self, pool)

    def cancel(self, message_id: str) -> bool:
        with self._lock:
            gone = [entry[3] for queue in self._queues.values() for entry in queue if entry[3].id == message_id]
            for source, queue in self._queues.items():
                self._queues[source] = [entry for entry in queue if entry[3].id != message_id]
                heapq.heapify(self._queues[source])
        events.record(events.event("cancelled", self.alias, replace(each, group="")) for each in gone[:1])
        return bool(gone)

    def depths(self) -> list[Depth]:
        with self._lock:
            waiting: Counter[str] = Counter()
            for source, queue in self._queues.items():
                waiting[source.group if isinstance(source, Lane) else source] += len(queue)
            return [Depth(group, waiting[group], self.taken.get(group, 0)) for group in handlers.on_bus(self.alias)]

    def _groups(self, envelope: Envelope) -> list[str]:
        groups = [envelope.group] if envelope.group else handlers.groups_for(self.alias, envelope.alias)
        known = [group for group in groups if group in handlers.on_bus(self.alias)]
        if not known:
            raise UnroutableError(
                f"{envelope.alias} reaches nobody on the bus {self.alias!r}",
                why="no handler receives it",
                fix="Write a handler in the handlers.py of an installed app.",
            )
        return known


def _urgent_first(queue: list[Entry], now: datetime) -> None:
    """Give all that is due the same time, so that priority decides between them."""
    queue[:] = [(_DUE if due <= now else due, urgency, number, each) for due, urgency, number, each in queue]
    heapq.heapify(queue)


class MemoryConsumer(Consumer):
    """Takes from the queues of this process."""

    bus: MemoryBus

    def waiting_groups(self) -> Iterable[str]:
        return [source for source in self.bus.with_work() if not isinstance(source, Lane)]

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        return [Delivery(entry[3], self.bus.alias, group) for entry in self.bus.take(group, limit)]

    def tend(self) -> None:
        """Handle the partitions that nobody handles, as long as there is something in them."""
        with_work = {source for source in self.bus.with_work() if isinstance(source, Lane)}
        for lane, line in list(self.lines.items()):
            if self.draining.is_set() and not line.running:
                self.give_back(line.waiting)
                line.waiting.clear()
            if not (line.running or line.waiting) and (self.draining.is_set() or lane not in with_work):
                del self.lines[lane]
                self.bus.disown(lane)
        for lane in with_work - self.lines.keys():
            if not self.draining.is_set() and self.bus.own(lane, self):
                self.lines[lane] = Line()

    def ready_lanes(self) -> Iterable[Lane]:
        return [source for source in self.bus.with_work() if isinstance(source, Lane)]

    def fetch_lane(self, lane: Lane, limit: int) -> list[Delivery]:
        taken = self.bus.take(lane, limit)
        return [Delivery(entry[3], self.bus.alias, lane.group, ref=entry, partition=lane.number) for entry in taken]

    def blocked(self, lane: Lane, line: Line, rest: list[Delivery], verdict: Verdict) -> None:
        super().blocked(lane, line, rest, verdict)
        if verdict.outcome == "stop":  # until this process ends
            line.leaving, self.stopped = True, f"stopped: {lane}"
        with self.turn():
            self.record([(rest[0], verdict)])

    def unfinished(self) -> bool:
        return super().unfinished() or bool(self.lines)

    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        with self.turn():
            for delivery, verdict in settled:
                if verdict.outcome == "dead":
                    dead_letter(delivery, verdict).save()
            self.record(settled)
        for delivery, verdict in settled:
            if verdict.outcome in ("retry", "postpone", "again"):
                envelope = delivery.envelope.next_attempt() if verdict.outcome == "retry" else delivery.envelope
                self.bus.put(envelope, delivery.group, timezone.now() + verdict.wait)
            self.bus.done(delivery.group)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.partition is None:
                self.bus.put(delivery.envelope, delivery.group, timezone.now())
            else:
                lane, entry = Lane(delivery.group, delivery.partition), delivery.ref
                self.bus.put_back(lane, (*entry[:3], delivery.envelope))
            self.bus.done(delivery.group)

    def idle(self, busy: bool) -> None:
        self.bus.arrived.wait(0 if busy else self.bus.options.poll_interval.total_seconds())
        self.bus.arrived.clear()

    def wake(self) -> None:
        self.bus.arrived.set()
