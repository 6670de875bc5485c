"""Verbs of messaging's rows. Times are compared by the database's own clock."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from django.db import connections, models, router, transaction
from django.db.models import F, Min, Q
from django.db.models.functions import Cast

from koan_django.core import clock
from koan_django.core.functions import IsOneOf, Now
from koan_django.core.leases import LeasedQuerySet, new_owner

from .envelope import Envelope
from .routing import LANES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .buses.base import Due
    from .models import (  # noqa: F401  # named in base classes as text
        DeadLetter,
        OutboxLane,
        OutboxMessage,
        Partition,
        QueuedDelivery,
        TopologyObject,
    )
    from .ordering.lines import Lane


#: The columns of a message that waits, in the order of the fields of :class:`~.envelope.Envelope`, but for the headers.
_ENVELOPE = ("message_id", "alias", "version", "body", "routing_key", "group", "attempt", "priority")
#: They are read as text: a JSON field would have its own, slow reader take each of them apart.
_HEADERS = Cast("headers", models.TextField())
#: Routing keys of messages that belong to no partition.
_KEYLESS = Q(routing_key__endswith=".p")
#: Lost with its worker so often, a message may be what ends workers. Less than that happens to any.
SUSPECT = 3


def available(due: Due) -> dict[str, Any]:
    """Return the column that says from when on a row may be taken; by the database's clock unless a time is given.

    At once is what the column says by itself, unless the clock was moved.
    """
    if due is None:
        return {"available_at": Now()} if clock.is_moved() else {}
    return {"available_at": Now() + due if isinstance(due, timedelta) else due}


class DueMessage(NamedTuple):
    """What a relay needs of a row: it reads them by the hundred, and making an instance takes as long as publishing."""

    pk: int
    lane: int
    tries: int
    envelope: Envelope


def _headers_in(text: str) -> dict[str, str]:
    try:
        found: dict[str, str] = msgspec.json.decode(text)
    except msgspec.DecodeError:  # half a surrogate pair, which Python's own reader takes, and wrote
        found = json.loads(text)
    return found


class OutboxQuerySet(models.QuerySet["OutboxMessage"]):
    """Messages that wait to be published."""

    def primary(self) -> OutboxQuerySet:
        """Read where is written: a replica may show what was published already."""
        return self.using(router.db_for_write(self.model))

    def pending(self, bus: str) -> OutboxQuerySet:
        """Messages of ``bus`` that wait, now or for later."""
        return self.filter(bus=bus, state="pending")

    def handed_over(self, bus: str) -> OutboxQuerySet:
        """Messages of ``bus`` that the process which wrote them publishes itself."""
        return self.filter(bus=bus, state="handed")

    def take_over(self, bus: str, patience: timedelta) -> int:
        """Have relays publish what has been handed over for longer than ``patience``; return how many that are."""
        return self.handed_over(bus).filter(created_at__lte=Now() - patience).update(state="pending")

    def parked(self, bus: str) -> OutboxQuerySet:
        """Messages of ``bus`` that were set aside."""
        return self.filter(bus=bus, state="parked")

    def within(self, lanes: Collection[int]) -> OutboxQuerySet:
        """Messages of these lanes, those of tenants with a broker of their own among them."""
        if len(lanes) == LANES:
            return self
        return self.alias(number=F("lane") % LANES).filter(number__in=lanes)

    def ahead(self, bus: str, lanes: Iterable[int]) -> OutboxQuerySet:
        """Messages of these lanes that were due before now: what is sent after them must not overtake them."""
        return self.pending(bus).filter(lane__in=list(lanes)).exclude(tries=0, available_at__gt=Now())

    def recallable(self, bus: str, message_id: str) -> OutboxQuerySet:
        """The message, if it was never due: what was may be on its way to the broker at this moment."""
        return self.pending(bus).filter(message_id=message_id, tries=0, available_at__gt=Now())

    def stuck(self, bus: str) -> dict[int, int]:
        """Return the oldest message with a key that was put off, by lane."""
        put_off = self.pending(bus).filter(tries__gt=0, available_at__gt=Now()).exclude(_KEYLESS)
        return dict(put_off.order_by().values_list("lane").annotate(Min("id")))

    def due(
        self, bus: str, limit: int, stuck: Mapping[int, int] = MappingProxyType({}), *, beside: Collection[int] = ()
    ) -> list[DueMessage]:
        """The next messages to publish ``beside`` those that are on their way, in the order of their writing.

        With ``stuck`` lanes, given as by :meth:`stuck`, no message with a key that would overtake one there.
        """
        rows = self.pending(bus).filter(available_at__lte=Now())
        for lane, pk in stuck.items():
            rows = rows.filter(_KEYLESS | ~Q(lane=lane) | Q(id__lt=pk))
        if beside:
            rows = rows.exclude(IsOneOf(F("pk"), list(beside)))
        found = rows.order_by("id").values_list("pk", "lane", "tries", *_ENVELOPE, _HEADERS)[:limit]
        return [
            DueMessage(pk, lane, tries, Envelope(id_, alias, version, bytes(body), _headers_in(headers), *others))
            for pk, lane, tries, id_, alias, version, body, *others, headers in found
        ]

    def park(self, pk: int, reason: str) -> int:
        """Set a message aside with its reason; nothing publishes it until somebody says so."""
        return self.filter(pk=pk).update(state="parked", last_error=reason[:500], tries=F("tries") + 1)

    def parked_before(self, when: datetime) -> OutboxQuerySet:
        """Messages that were parked before ``when``, and were due before that."""
        return self.filter(state="parked", available_at__lt=when)

    def forget(self, limit: int) -> list[OutboxMessage]:
        """Delete ``limit`` of these, of each bus the oldest first, without waiting for locks; return them.

        In a transaction. That order is the one of the index of parked messages.
        """
        rows = self.order_by("bus", "id")
        features = connections[self.db].features
        if features.has_select_for_update:
            rows = rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        found = list(rows[:limit])
        self.filter(pk__in=[row.pk for row in found])._raw_delete(self.db)
        return found

    def put_off(self, pks: Iterable[int], reason: str, wait: timedelta) -> int:
        """Try these again after ``wait``."""
        return self.filter(pk__in=list(pks)).update(
            available_at=Now() + wait, last_error=reason[:500], tries=F("tries") + 1
        )


class OutboxLaneQuerySet(LeasedQuerySet["OutboxLane"]):
    """The lanes of the outbox, and which relay holds them."""

    def primary(self) -> OutboxLaneQuerySet:
        """Read where is written: a replica may show an owner who has gone."""
        return self.using(router.db_for_write(self.model))


class DeliveryQuerySet(LeasedQuerySet["QueuedDelivery"]):
    """The queue of the database bus."""

    def primary(self) -> DeliveryQuerySet:
        """Read where is written: a replica may show what was handled already."""
        return self.using(router.db_for_write(self.model))

    def waiting(self, bus: str, group: str, *, without: Collection[str] = ()) -> DeliveryQuerySet:
        """Deliveries of a group that are due and nobody handles; ``without`` are aliases that are left out."""
        rows = self.filter(bus=bus, group=group, available_at__lte=Now())
        return (rows.exclude(alias__in=without) if without else rows).free()  # type: ignore[return-value]  # of the same class

    def keyless(self) -> DeliveryQuerySet:
        """Deliveries that belong to no partition."""
        return self.filter(partition__isnull=True)

    def arrived(self, bus: str, lanes: Iterable[Lane]) -> set[tuple[str, int]]:
        """Those of ``lanes``, as (group, partition), in which something is due."""
        numbers: dict[str, list[int]] = {}
        for group, number in lanes:
            numbers.setdefault(group, []).append(number)
        found: set[tuple[str, int]] = set()
        for group, those in numbers.items():
            due = self.filter(bus=bus, group=group, partition__in=those, available_at__lte=Now())
            numbers_due = due.order_by().values_list("partition", flat=True).distinct()
            found |= {(group, number) for number in numbers_due if number is not None}
        return found

    def claim_lane(self, bus: str, lane: Lane, limit: int, ttl: timedelta) -> list[QueuedDelivery]:
        """Take the oldest deliveries of a partition for ``ttl``, whoever had them.

        The partition's lease says whose turn it is. Somebody who has lost it and does not know yet settles nothing: the
        tokens of the deliveries have risen.
        """
        owner = new_owner()
        with transaction.atomic(using=self.db):
            due = self.filter(bus=bus, group=lane.group, partition=lane.number, available_at__lte=Now())
            pks = _together(due.order_by("id").values_list("pk", "deliveries")[:limit])
            if not pks:
                return []
            taken = self.filter(pk__in=pks)
            taken.update(
                lease_owner=owner,
                lease_token=F("lease_token") + 1,
                lease_until=Now() + ttl,
                deliveries=F("deliveries") + 1,
            )
        return list(taken.filter(lease_owner=owner).order_by("id"))

    def claim(
        self, bus: str, group: str, limit: int, ttl: timedelta, *, without: Collection[str] = ()
    ) -> list[QueuedDelivery]:
        """Take up to ``limit`` waiting deliveries for ``ttl``: higher priority first, then the oldest.

        One that was lost with its worker :data:`SUSPECT` times is taken alone.
        """
        owner = new_owner()
        features = connections[self.db].features
        with transaction.atomic(using=self.db):
            rows = self.waiting(bus, group, without=without).order_by("-priority", "id")
            if features.has_select_for_update:
                rows = rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
            pks = _together(rows.values_list("pk", "deliveries")[:limit])
            if not pks:
                return []
            free = self.filter(pk__in=pks).free()  # once more, for a database without row locks
            free.update(
                lease_owner=owner,
                lease_token=F("lease_token") + 1,
                lease_until=Now() + ttl,
                deliveries=F("deliveries") + 1,
            )
        return list(self.filter(pk__in=pks, lease_owner=owner).order_by("-priority", "id"))

    def extend(self, taken: Iterable[tuple[int, int]], ttl: timedelta) -> None:
        """Hold on to deliveries, given as (pk, token), that nobody else has taken since, for another ``ttl``."""
        for token, pks in _by_token(taken):
            self.filter(pk__in=pks, lease_token=token).update(lease_until=Now() + ttl)

    def finish(self, taken: Iterable[tuple[int, int]]) -> int:
        """Delete deliveries, given as (pk, token), that nobody else has taken since; return how many."""
        gone = 0
        with connections[self.db].cursor() as cursor:
            for token, pks in _by_token(taken):
                cursor.execute(_finishing(self.model, len(pks), self.db), [token, *pks])
                gone += cursor.rowcount
        return gone

    def let_go(self, taken: Iterable[tuple[int, int]]) -> None:
        """Hold deliveries, given as (pk, token), no longer: there was an answer, and their turn comes again."""
        for token, pks in _by_token(taken):
            self.filter(pk__in=pks, lease_token=token).update(lease_until=None, deliveries=0)

    def put_back(self, pk: int, token: int, *, attempt: int, wait: timedelta, error: str) -> bool:
        """Let a delivery that nobody else has taken since be tried again after ``wait``."""
        mine = self.filter(pk=pk, lease_token=token)
        changed = mine.update(
            attempt=attempt, available_at=Now() + wait, lease_until=None, deliveries=0, last_error=error[:500]
        )
        return bool(changed)


@lru_cache(maxsize=256)
def _finishing(model: type[models.Model], count: int, using: str) -> str:
    """The statement for ``count`` deliveries: there is one for each message, and the ORM takes longer to make it than
    the database to carry it out.
    """
    name = connections[using].ops.quote_name
    table, token, pk = map(name, (model._meta.db_table, "lease_token", "id"))
    return f"DELETE FROM {table} WHERE {token} = %s AND {pk} IN ({', '.join(['%s'] * count)})"  # noqa: S608  # of names


def _together(found: Iterable[tuple[int, int]]) -> list[int]:
    """Return which of ``found``, given as (pk, deliveries), may be taken at once."""
    known = list(found)
    if known and known[0][1] >= SUSPECT:
        return [known[0][0]]
    return [pk for pk, _deliveries in takewhile(lambda each: each[1] < SUSPECT, known)]


class PartitionQuerySet(LeasedQuerySet["Partition"]):
    """The partitions of ordered groups, and who holds them."""

    def primary(self) -> PartitionQuerySet:
        """Read where is written: a replica may show an owner who has gone."""
        return self.using(router.db_for_write(self.model))

    def stopped(self) -> PartitionQuerySet:
        """Those that wait for somebody's decision."""
        return self.filter(state="stopped")

    def go_on(self, *, skip: bool) -> int:
        """Let stopped partitions go on: with their message tried again, or set aside as a dead letter."""
        return self.stopped().update(state="blocked", skip=skip, attempt=1)


def _by_token(taken: Iterable[tuple[int, int]]) -> Iterable[tuple[int, list[int]]]:
    """Group pks by their token, for one statement each; first takes share the token 1."""
    tokens: dict[int, list[int]] = {}
    for pk, token in taken:
        tokens.setdefault(token, []).append(pk)
    return tokens.items()


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    """Messages that could not be handled."""

    def primary(self) -> DeadLetterQuerySet:
        """Read where is written: a replica may show what was replayed already."""
        return self.using(router.db_for_write(self.model))

    def dead(self) -> DeadLetterQuerySet:
        """Those that nobody has replayed or discarded."""
        return self.filter(state="dead")


class TopologyObjectQuerySet(models.QuerySet["TopologyObject"]):
    """What was made on brokers."""

    def of(self, bus: str, broker: str, vhost: str) -> TopologyObjectQuerySet:
        """What ``bus`` has in one virtual host of a broker."""
        return self.using(router.db_for_write(self.model)).filter(bus=bus, broker=broker, vhost=vhost)

    def wanted(self, digests: Iterable[str]) -> int:
        """Note that these are wanted now."""
        known = list(digests)
        starts = range(0, len(known), 500)  # some databases take no more values in one statement
        return sum(self.filter(digest__in=known[start : start + 500]).update(wanted_at=Now()) for start in starts)
