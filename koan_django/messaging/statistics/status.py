"""What waits where, who consumes it, and what needs attention: the numbers of pages, commands and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count, Min
from django.utils import timezone

from koan_django.core import health
from koan_django.core.stores import STORE_ERRORS
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.base import Depth
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.control.standing import Standing, standings
from koan_django.messaging.models import DeadLetter, OutboxMessage, RegisteredHandler

from . import asking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.messaging.buses.base import Bus

#: What waits for longer in the outbox needs attention.
LATE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class BusStatus:
    """One bus. ``error`` is why it could not be asked; ``lag`` is how long the oldest due outbox message waits."""

    alias: str
    place: str
    depths: tuple[Depth, ...]
    error: str
    pending: int
    lag: timedelta
    parked: int
    breaker: str = ""
    publisher: str = ""
    workers: tuple[health.Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """Messaging as a whole."""

    buses: tuple[BusStatus, ...]
    handlers: tuple[Standing, ...]
    dead: int

    @property
    def troubles(self) -> list[str]:
        """What somebody should look at."""
        found = [f"the bus {bus.alias} cannot be asked: {bus.error}" for bus in self.buses if bus.error]
        for bus in self.buses:
            found += [f"{bus.alias}/{depth.group}: {depth.note}" for depth in bus.depths if depth.note]
            found += [
                f"{bus.alias}/{depth.group}: {depth.waiting} wait and nobody consumes them"
                for depth in bus.depths
                if depth.waiting > 0 and depth.consumers == 0 and not depth.note
            ]
            if bus.lag > LATE:
                found.append(f"the outbox of {bus.alias} waits for {bus.lag.total_seconds():.0f} s")
            if bus.parked:
                found.append(f"{bus.parked} messages are parked in the outbox of {bus.alias}")
        found += [
            f"the handler {each.row.name} is {each.state}: {each.why}"
            for each in self.handlers
            if each.state in ("paused", "open", "half-open")
        ]
        return [*found, f"{self.dead} dead letters"] if self.dead else found


def status() -> Status:
    """Ask everything; a broker that does not answer costs three seconds."""
    buses = registry.all_buses()
    answers = asking.answers(buses)
    outbox = _outbox()
    facts = _facts()
    handlers = tuple(standings(RegisteredHandler.objects.all().primary()))
    made = tuple(_bus(bus, answers[bus.alias], outbox.get(bus.alias, _EMPTY), facts) for bus in buses)
    return Status(made, handlers, DeadLetter.objects.all().dead().count())


_EMPTY = (0, timedelta(0), 0)


def _bus(
    bus: Bus, answer: asking.Answer, outbox: tuple[int, timedelta, int], facts: Iterable[health.Finding]
) -> BusStatus:
    pending, lag, parked = outbox
    broker = bus.current if isinstance(bus, ElectedBus) else bus
    return BusStatus(
        alias=bus.alias,
        place=bus.place,
        depths=answer.depths,
        error=answer.error,
        pending=pending,
        lag=lag,
        parked=parked,
        breaker=broker.breaker.state if isinstance(broker, BrokerBus) else "",
        publisher=broker.publisher_state if isinstance(broker, BrokerBus) else "",
        workers=tuple(each for each in facts if _is_about(each.name, bus.alias)),
    )


def _outbox() -> dict[str, tuple[int, timedelta, int]]:
    """What waits for each bus, since when it is due, and what was set aside."""
    now, found = timezone.now(), dict[str, tuple[int, timedelta, int]]()
    rows = OutboxMessage.objects.values("bus", "state").annotate(count=Count("pk"), oldest=Min("available_at"))
    for row in rows.order_by():
        pending, lag, parked = found.get(row["bus"], _EMPTY)
        if row["state"] == "pending":
            pending, lag = row["count"], max(now - row["oldest"], timedelta(0))
        else:
            parked = row["count"]
        found[row["bus"]] = (pending, lag, parked)
    return found


def _facts() -> list[health.Finding]:
    try:
        return [each for each in health.aggregate().findings if each.name.startswith("messaging.")]
    except STORE_ERRORS:
        return []


def _is_about(name: str, alias: str) -> bool:
    """Whether a fact such as ``messaging.consumer.main`` or ``messaging.relay.main.host:5672`` is about a bus."""
    parts = name.split(".", 3)
    return len(parts) > 2 and parts[1] != "handler" and parts[2] == alias
