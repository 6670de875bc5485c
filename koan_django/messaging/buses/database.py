"""The bus that needs nothing but the database.

Sending inserts a row per group in the caller's transaction; the handler's transaction deletes it, guarded by the
lease's token, so a message and its effects are committed together or not at all.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, router, transaction
from django.db.models import Count, Q

from koan_django.core import clock
from koan_django.core.exceptions import LeaseLostError
from koan_django.core.functions import Now
from koan_django.messaging import events, handlers
from koan_django.messaging.dead.deadletters import dead_letter
from koan_django.messaging.envelope import Delivery, Envelope, Receipt
from koan_django.messaging.exceptions import OutboxError, UnroutableError
from koan_django.messaging.handling.burial import given_up
from koan_django.messaging.ordering.lines import Lane
from koan_django.messaging.ordering.sharing import SharingConsumer
from koan_django.messaging.outgoing import databases
from koan_django.messaging.outgoing.notifying import notify
from koan_django.messaging.outgoing.waking import Waker
from koan_django.messaging.querysets import SUSPECT, available
from koan_django.messaging.routing import partition_in

from .base import Bus, Capabilities, Depth, Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from koan_django.messaging.handling.consumer import Consumer
    from koan_django.messaging.handling.verdicts import Verdict
    from koan_django.messaging.models import QueuedDelivery
    from koan_django.messaging.ordering.lines import Line
    from koan_django.messaging.querysets import DeliveryQuerySet

    from .base import Due


class DatabaseBus(Bus):
    """Durable delivery rows, claimed by lease; with SKIP LOCKED where the database has it."""

    capabilities = Capabilities(transactional=True, durable=True, shared=True, ordered=True, priorities=True)

    def send(self, envelopes: Sequence[Envelope], due: Due, using: str | None = None) -> list[Receipt]:
        from koan_django.messaging.models import QueuedDelivery

        here = router.db_for_write(QueuedDelivery)
        if using not in (None, here, databases.main()):
            raise self._elsewhere(here, using)
        rows = [
            QueuedDelivery.holding(
                self.alias, envelope, group=group, partition=partition_in(envelope.routing_key), **available(due)
            )
            for envelope in envelopes
            for group in self._groups(envelope)
        ]
        with transaction.atomic(using=here):
            QueuedDelivery.objects.bulk_create(rows)
            if due is None:
                notify(self.alias, here)
            events.record(events.event("sent", self.alias, envelope) for envelope in envelopes)
        return [Receipt(envelope.id, "accepted", self.alias) for envelope in envelopes]

    def _elsewhere(self, here: str, using: object) -> OutboxError:
        return OutboxError(
            f"no transaction of {using!r} can hold a message of the bus {self.alias!r}",
            why=f"that bus is in the database {here!r}, and has no outbox",
            fix=f"Send on a bus with a broker; or say using={here!r}, and it is committed with what is written there.",
        )

    def _groups(self, envelope: Envelope) -> list[str]:
        known = handlers.on_bus(self.alias)
        groups = handlers.groups_for(self.alias, envelope.alias)
        if envelope.group:
            groups = [envelope.group] if envelope.group in known else []
        if not groups:
            raise UnroutableError(
                f"{envelope.alias} reaches nobody on the bus {self.alias!r}",
                why=f"the group {envelope.group!r} has no handlers" if envelope.group else "no handler receives it",
                fix="Write a handler in the handlers.py of an installed app.",
            )
        return groups

    def consumer(self, pool: Pool) -> Consumer:
        return DatabaseConsumer(self, pool)

    def cancel(self, message_id: str) -> bool:
        from koan_django.messaging.models import QueuedDelivery

        waiting = QueuedDelivery.objects.all().primary().filter(bus=self.alias, message_id=message_id).free()
        with transaction.atomic(using=waiting.db):
            found = [row.envelope() for row in waiting]
            gone = bool(found) and bool(waiting.delete()[0])
            events.record(events.event("cancelled", self.alias, each) for each in found if gone)
        return gone

    def complete(self, deliveries: Sequence[Delivery]) -> None:
        from koan_django.messaging.models import QueuedDelivery

        deleted = QueuedDelivery.objects.all().primary().finish((each.ref, each.token) for each in deliveries)
        if deleted != len(deliveries):
            raise LeaseLostError(
                "a delivery belongs to another worker now",
                why=f"it was held for longer than the lease of {self.options.lease.total_seconds():g} s",
                fix="Nothing: the other worker handles it. Raise LEASE if it happens often.",
            )

    def depths(self) -> list[Depth]:
        from koan_django.messaging.models import QueuedDelivery

        held = Count("id", filter=Q(lease_until__gt=Now()))
        rows = QueuedDelivery.objects.filter(bus=self.alias).values("group").annotate(all=Count("id"), held=held)
        counted = {row["group"]: Depth(row["group"], row["all"] - row["held"], row["held"]) for row in rows}
        return [counted.get(group, Depth(group, 0, 0)) for group in handlers.on_bus(self.alias)]


class DatabaseConsumer(SharingConsumer):
    """Looks for waiting rows when it is notified, and now and then; a read decides whether a claim is worth a write."""

    def __init__(self, bus: DatabaseBus, pool: Pool) -> None:
        super().__init__(bus, pool)
        self._waker = Waker(bus.alias, bus.options)
        self._renewed = clock.monotonic()
        #: What may end the worker: as long as it is in flight nothing else is fetched that would go with it.
        self._suspect: int | None = None
        #: Lanes in which there was nothing when they were looked at last.
        self._dry: set[Lane] = set()
        self._polled = float("-inf")

    @property
    def _rows(self) -> DeliveryQuerySet:
        from koan_django.messaging.models import QueuedDelivery

        return QueuedDelivery.objects.all().primary()

    def open(self) -> None:
        if self.shares.groups:
            with self.turn():
                self.shares.declare()
        self._waker.open(self._rows.db)
        self.advance("connected")

    def shut(self) -> None:
        self._waker.close()
        super().shut()

    def waiting_groups(self) -> Iterable[str]:
        with self.turn():
            return [group for group in self.groups if not self.gate.is_shut(group) and self._is_waiting(group)]

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        with self.turn():
            held = self.gate.aliases(group)
            rows = self._unordered(group).claim(self.bus.alias, group, limit, self.bus.options.lease, without=held)
        return self._taken(rows)

    def _taken(self, rows: list[QueuedDelivery]) -> list[Delivery]:
        """Return the deliveries of ``rows``, without those that no worker survives: they become dead letters."""
        limit = self.bus.options.delivery_limit
        spent = [self._delivery(row) for row in rows if row.deliveries > limit]
        if spent:
            self.settle([(each, given_up(self.bus, each)) for each in spent])
        taken = [row for row in rows if row.deliveries <= limit]
        self._suspect = next((row.pk for row in taken if row.deliveries > SUSPECT), self._suspect)
        return [self._delivery(row) for row in taken]

    def _has_room(self) -> bool:
        if self._suspect is not None and any(
            each.ref == self._suspect for batch in self.in_flight.values() for each in batch.deliveries
        ):
            return False
        self._suspect = None
        return super()._has_room()

    def _is_waiting(self, group: str) -> bool:
        return self._unordered(group).waiting(self.bus.alias, group, without=self.gate.aliases(group)).exists()

    def _unordered(self, group: str) -> DeliveryQuerySet:
        return self._rows.keyless() if group in self.ordered else self._rows

    def _delivery(self, row: QueuedDelivery) -> Delivery:
        partition = row.partition if row.group in self.ordered else None
        return Delivery(row.envelope(), self.bus.alias, row.group, row.pk, row.lease_token, partition)

    # partitions

    def open_lane(self, lane: Lane) -> None:
        self._dry.discard(lane)

    def close_lane(self, lane: Lane) -> None:
        """Whoever has the lane next takes its rows, whoever they belong to."""

    def ready_lanes(self) -> Iterable[Lane]:
        """Those that were not found empty; among the others, now and then, those where something has arrived."""
        now = clock.monotonic()
        dry = [lane for lane in self.lines if lane in self._dry]
        if dry and now - self._polled >= self.bus.options.poll_interval.total_seconds() / 2:
            self._polled = now
            with self.turn():
                self._dry -= self._rows.arrived(self.bus.alias, dry)
        return [lane for lane in self.lines if lane not in self._dry]

    def waiting_lanes(self) -> Iterable[Lane]:
        every = [Lane(group, number) for group in sorted(self.ordered) for number in range(self.bus.options.partitions)]
        with self.turn():
            arrived = self._rows.arrived(self.bus.alias, every)
        return [lane for lane in every if lane in arrived]

    def fetch_lane(self, lane: Lane, limit: int) -> list[Delivery]:
        with self.turn():
            rows = self._rows.claim_lane(self.bus.alias, lane, limit, self.bus.options.lease)
        if not rows:
            self._dry.add(lane)
        return self._taken(rows)

    def blocked(self, lane: Lane, line: Line, rest: list[Delivery], verdict: Verdict) -> None:
        """The rows are read again when they are tried again: somebody may have deleted one, or taken it over."""
        super().blocked(lane, line, rest, verdict)
        line.waiting.clear()
        try:
            with self.turn():
                self._rows.let_go((each.ref, each.token) for each in rest)
        except (DatabaseError, InterfaceError) as error:
            self.note_away(error)

    # settling

    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        with self.turn(), transaction.atomic(using=self._rows.db):
            over = [d for d, v in settled if v.outcome in ("handled", "duplicate")]
            self._rows.finish((each.ref, each.token) for each in over)
            troubled = [(d, v) for d, v in settled if v.outcome in ("retry", "postpone", "again", "dead")]
            kept = [(d, v) for d, v in troubled if self._apply(d, v)]
            self.record(kept)

    def _apply(self, delivery: Delivery, verdict: Verdict) -> bool:
        """Put back or dead-letter one delivery; ``False`` when another worker has it now."""
        if verdict.outcome == "dead":
            if not self._rows.finish([(delivery.ref, delivery.token)]):
                return False
            dead_letter(delivery, verdict).save()
            return True
        attempt = delivery.envelope.attempt + (verdict.outcome == "retry")
        return self._rows.put_back(
            delivery.ref, delivery.token, attempt=attempt, wait=verdict.wait, error=verdict.error
        )

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        with self.turn():
            for each in deliveries:
                self._rows.put_back(each.ref, each.token, attempt=each.envelope.attempt, wait=timedelta(0), error="")

    def keep(self) -> None:
        period = self.bus.options.lease.total_seconds() / 3
        if clock.monotonic() - self._renewed < period:
            return
        held = [*self.in_flight.values(), *self._again]
        if held:
            with self.turn():
                taken = ((each.ref, each.token) for batch in held for each in batch.deliveries)
                self._rows.extend(taken, self.bus.options.lease)
        self._renewed = clock.monotonic()

    def idle(self, busy: bool) -> None:
        if busy or self.in_flight:
            self._waker.stir()
        if not busy:
            self._waker.wait()

    def wake(self) -> None:
        self._waker.wake()
