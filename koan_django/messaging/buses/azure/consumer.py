"""Consumes a bus on Azure Service Bus.

A message stays in its queue under a lock until its handler's transaction is over. What must come again goes to the
outbox first, addressed to its group; kombu can neither give a message back nor delay one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from django.db import router, transaction

from koan_django.messaging.envelope import Delivery
from koan_django.messaging.handling.burial import bury
from koan_django.messaging.handling.consumer import Consumer
from koan_django.messaging.outgoing import outbox

from .link import envelope_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.messaging.buses.base import Pool
    from koan_django.messaging.handling.verdicts import Verdict

    from .bus import AzureBus


class AzureConsumer(Consumer):
    """The consuming thread of one bus in a worker's main process."""

    bus: AzureBus

    def __init__(self, bus: AzureBus, pool: Pool) -> None:
        super().__init__(bus, pool)
        self._link = bus.link()
        self._awake = threading.Event()

    def shut(self) -> None:
        self._link.close()

    def waiting_groups(self) -> Iterable[str]:
        return list(self.groups)

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        found: list[Delivery] = []
        while len(found) < limit and (message := self._link.take(group)) is not None:
            envelope = envelope_of(message, group)
            found.append(Delivery(envelope, self.bus.alias, group, ref=message.delivery_tag))
        return found

    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        over = [d for d, v in settled if v.outcome in ("handled", "duplicate")]
        dead = [(d, v) for d, v in settled if v.outcome == "dead"]
        again = [(d, v) for d, v in settled if v.outcome in ("retry", "postpone", "again")]
        if again:
            self._store(again)
        buried, self.trouble = bury(self.bus.alias, self.turn, dead)
        for delivery in (*over, *(d for d, _ in again), *buried):
            self._link.finish(delivery.ref)

    def _store(self, again: list[tuple[Delivery, Verdict]]) -> None:
        """The rows are committed before the service forgets; a crash in between makes a copy, and loses nothing."""
        from koan_django.messaging.models import OutboxMessage

        with self.turn(), transaction.atomic(using=router.db_for_write(OutboxMessage)):
            for delivery, verdict in again:
                envelope = delivery.envelope.next_attempt() if verdict.outcome == "retry" else delivery.envelope
                outbox.store(self.bus.alias, [envelope], verdict.wait or None, error=verdict.error)
            self.record(again)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Nothing to do: their locks end."""

    def idle(self, busy: bool) -> None:
        self._awake.wait(0 if busy else self.bus.options.poll_interval.total_seconds())
        self._awake.clear()

    def wake(self) -> None:
        self._awake.set()
