"""The bus of tests and single processes: queues in this process's memory, lost when it ends."""

from __future__ import annotations

import heapq
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from koan_django.messaging import events, handlers
from koan_django.messaging.consumer import Consumer
from koan_django.messaging.deadletters import dead_letter
from koan_django.messaging.envelope import Delivery, Envelope, Receipt
from koan_django.messaging.exceptions import UnroutableError

from .base import Bus, Capabilities, Depth, Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.verdicts import Verdict

    from .base import Due


class MemoryBus(Bus):
    """A heap per group, by due time, priority and order of sending."""

    capabilities = Capabilities(transactional=False, durable=False, shared=False, ordered=False, priorities=True)

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        self._queues: dict[str, list[tuple[datetime, int, int, Envelope]]] = {}
        self._lock = threading.Lock()
        self._numbers = count()
        self.taken: dict[str, int] = {}
        self.arrived = threading.Event()

    def send(self, envelopes: Sequence[Envelope], due: Due) -> list[Receipt]:
        addressed = [
            (replace(envelope, group=group), group) for envelope in envelopes for group in self._groups(envelope)
        ]
        at = due if isinstance(due, datetime) else timezone.now() + (due or timedelta(0))
        for envelope, group in addressed:
            transaction.on_commit(partial(self.put, envelope, group, at))
        events.record(events.event("sent", self.alias, envelope) for envelope in envelopes)
        return [Receipt(envelope.id, "accepted", self.alias) for envelope in envelopes]

    def put(self, envelope: Envelope, group: str, due: datetime) -> None:
        """Queue ``envelope`` for ``group``."""
        with self._lock:
            entry = (due, -envelope.priority, next(self._numbers), envelope)
            heapq.heappush(self._queues.setdefault(group, []), entry)
        self.arrived.set()

    def take(self, group: str, limit: int) -> list[Envelope]:
        """Take up to ``limit`` envelopes that are due."""
        now = timezone.now()
        with self._lock:
            queue = self._queues.get(group, [])
            found: list[Envelope] = []
            while queue and queue[0][0] <= now and len(found) < limit:
                found.append(heapq.heappop(queue)[3])
            self.taken[group] = self.taken.get(group, 0) + len(found)
        return found

    def done(self, group: str) -> None:
        """Note that a taken envelope was settled."""
        with self._lock:
            self.taken[group] -= 1

    def groups_with_work(self) -> list[str]:
        """Return the groups that have something due."""
        now = timezone.now()
        with self._lock:
            return [group for group, queue in self._queues.items() if queue and queue[0][0] <= now]

    def consumer(self, pool: Pool) -> Consumer:
        return MemoryConsumer(self, pool)

    def cancel(self, message_id: str) -> bool:
        with self._lock:
            gone = [entry[3] for queue in self._queues.values() for entry in queue if entry[3].id == message_id]
            for group, queue in self._queues.items():
                self._queues[group] = [entry for entry in queue if entry[3].id != message_id]
                heapq.heapify(self._queues[group])
        events.record(events.event("cancelled", self.alias, replace(each, group="")) for each in gone[:1])
        return bool(gone)

    def depths(self) -> list[Depth]:
        with self._lock:
            return [
                Depth(group, len(self._queues.get(group, ())), self.taken.get(group, 0))
                for group in handlers.on_bus(self.alias)
            ]

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


class MemoryConsumer(Consumer):
    """Takes from the queues of this process."""

    bus: MemoryBus

    def waiting_groups(self) -> Iterable[str]:
        return self.bus.groups_with_work()

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        return [Delivery(envelope, self.bus.alias, group) for envelope in self.bus.take(group, limit)]

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
            self.bus.put(delivery.envelope, delivery.group, timezone.now())
            self.bus.done(delivery.group)

    def idle(self, busy: bool) -> None:
        self.bus.arrived.wait(0 if busy else self.bus.options.poll_interval.total_seconds())
        self.bus.arrived.clear()

    def wake(self) -> None:
        self.bus.arrived.set()
