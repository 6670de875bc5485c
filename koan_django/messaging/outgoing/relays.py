"""The relays of a process without a worker: one for each bus on a broker."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError
from django.db.models import Q

from koan_django.core import reporter
from koan_django.core.databases import keep_usable
from koan_django.core.functions import Now
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.buses.elected import ElectedBus

from . import databases
from .relay import Relay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.messaging.buses.base import Bus
    from koan_django.messaging.querysets import OutboxQuerySet

logger = logging.getLogger(__name__)

#: What is in flight at the end is settled or left to whoever takes over.
SPARE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Left:
    """What stands in the outbox: ``waiting`` to be published now or again, and ``parked``."""

    waiting: int
    parked: int


class Relays:
    """Relays to the brokers of ``buses``, one for each database with an outbox. An elected bus is followed: it has one
    while one is elected.
    """

    def __init__(self, buses: Sequence[Bus]) -> None:
        self.buses = buses
        self.running: dict[tuple[BrokerBus, str], Relay] = {}

    @property
    def published(self) -> int:
        """How many messages the brokers have taken."""
        return sum(relay.published for relay in self.running.values())

    @property
    def has_failed(self) -> bool:
        """Whether one has ended by an error, which none should."""
        return any(not relay.is_alive() for relay in self.running.values())

    def tend(self) -> None:
        """Start the relays that are missing, and end those to brokers that are elected no longer."""
        try:
            keep_usable()
            brokers = [broker for bus in self.buses for broker in _brokers_of(bus)]
            wanted = [(broker, using) for broker in brokers for using in databases.every()]
        except (DatabaseError, InterfaceError) as error:
            logger.warning("What is elected could not be read: %s", error)
            return
        for each in self.running.keys() - set(wanted):
            self._stop(self.running.pop(each))
        for broker, using in wanted:
            if (broker, using) not in self.running:
                relay = self.running[broker, using] = Relay(broker, using=using)
                reporter.source(relay.name)(relay.finding)
                relay.start()

    def left(self) -> Left:
        """Count what stands in the outbox; uses the database."""
        keep_usable()
        mine = self._rows()
        due = Q(available_at__lte=Now()) | Q(tries__gt=0)
        waiting = sum(rows.filter(due).exclude(state="parked").count() for rows in mine)
        return Left(waiting, sum(rows.filter(state="parked").count() for rows in mine))

    def reason(self) -> str:
        """What keeps one from publishing, or else what was said of the message tried last; uses the database."""
        if found := next((relay.error for relay in self.running.values() if relay.error), ""):
            return found
        try:
            failed = [rows.exclude(last_error="").order_by("-available_at").first() for rows in self._rows()]
        except (DatabaseError, InterfaceError) as error:
            return str(error)
        return next((row.last_error for row in failed if row), "")

    def stop(self) -> None:
        """End all of them: what is in flight is settled, and the lanes are given back."""
        for relay in self.running.values():
            relay.drain()
        for relay in self.running.values():
            self._stop(relay)

    def _rows(self) -> list[OutboxQuerySet]:
        aliases = [bus.alias for bus in self.buses]
        return [_outbox(using).filter(bus__in=aliases) for using in databases.every()]

    def _stop(self, relay: Relay) -> None:
        relay.stop(relay.lease.total_seconds() + SPARE_SECONDS)
        reporter.remove(relay.name)


def _brokers_of(bus: Bus) -> list[BrokerBus]:
    """The broker behind a bus, if one is."""
    found = bus.current if isinstance(bus, ElectedBus) else bus
    return [found] if isinstance(found, BrokerBus) else []


def _outbox(using: str) -> OutboxQuerySet:
    from koan_django.messaging.models import OutboxMessage

    return OutboxMessage.objects.using(using)
