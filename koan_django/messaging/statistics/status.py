"""What waits where, who consumes it, and what needs attention: the numbers of pages, commands and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count, Min
from django.utils import timezone

from koan_django.core import health
from koan_django.core.stores import STORE_ERRORS
from koan_django.core.texts import counted
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.base import Depth
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.control.standing import Standing, standings
from koan_django.messaging.models import DeadLetter, OutboxMessage, Partition, RegisteredHandler
from koan_django.messaging.ordering.stopping import stopped
from koan_django.messaging.outgoing import databases

from . import asking
from .leftovers import Leftover, leftovers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from koan_django.messaging.buses.base import Bus

#: What waits for longer in the outbox needs attention.
LATE = timedelta(minutes=1)
#: Handlers that are kept from their messages, and what is to be done.
_HELD = {
    "paused": "`koan_handlers resume` lets it work again",
    "open": "It is probed by itself",
    "half-open": "It is being probed",
}


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
    #: The breakers of the bus and of its brokers that are not closed: name, state, the last failure.
    broken: tuple[tuple[str, str, str], ...] = ()

    def troubles(self) -> Iterator[str]:
        """Yield what somebody should look at here."""
        if self.error:
            yield f"the bus {self.alias} cannot be asked: {self.error}"
        for name, state, why in self.broken:
            yield f"the breaker {name} is {state}: {why or 'by hand'}. Messages go elsewhere or wait in the outbox"
        for depth in self.depths:
            if depth.note:
                fix = ". A worker makes it when it starts" if depth.note.endswith("is missing") else ""
                yield f"{self.alias}/{depth.group}: {depth.note}{fix}"
            elif depth.waiting > 0 and depth.consumers == 0:
                waiting = counted(depth.waiting, "waits and nobody consumes it", "wait and nobody consumes them")
                yield f"{self.alias}/{depth.group}: {waiting}. Start a worker"
        if self.lag > LATE:
            yield f"the outbox of {self.alias} waits for {self.lag.total_seconds():.0f} s"
        if self.parked:
            parked = counted(self.parked, "message is", "messages are")
            yield f"{parked} parked in the outbox of {self.alias}. The admin shows why, and publishes them again"


@dataclass(frozen=True, slots=True)
class Status:
    """Messaging as a whole."""

    buses: tuple[BusStatus, ...]
    handlers: tuple[Standing, ...]
    dead: int
    leftovers: tuple[Leftover, ...] = ()
    stopped: tuple[Partition, ...] = ()

    @property
    def troubles(self) -> list[str]:
        """What somebody should look at, each with what to do where that is known."""
        return list(self._troubles())

    def _troubles(self) -> Iterator[str]:
        for bus in self.buses:
            yield from bus.troubles()
        yield from map(str, self.leftovers)
        for each in self.handlers:
            if each.state in _HELD:
                yield f"the handler {each.row.name} is {each.state}: {each.why}. {_HELD[each.state]}"
        for row in self.stopped:
            verbs = f"`koan_partitions retry {row.group} {row.number}`, or `skip`"
            yield f"{row.bus}/{row} has stopped at {row.alias} {row.message_id}: {row.error}. {verbs}"
        if self.dead:
            yield f"{counted(self.dead, 'dead letter')}. `koan_deadletters causes` says why"


def status() -> Status:
    """Ask everything; a broker that does not answer costs three seconds."""
    buses = registry.all_buses()
    answers = asking.answers(buses)
    outbox = _outbox()
    facts = _facts()
    handlers = tuple(standings(RegisteredHandler.objects.all().primary()))
    made = tuple(_bus(bus, answers[bus.alias], outbox.get(bus.alias, _EMPTY), facts) for bus in buses)
    dead = DeadLetter.objects.all().primary().dead().count()
    return Status(made, handlers, dead, tuple(leftovers(buses)), tuple(stopped()))


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
        broken=tuple(_broken(broker)),
    )


def _broken(bus: Bus) -> Iterator[tuple[str, str, str]]:
    """The breakers that are not closed, each once: a bus that is one broker is its own member."""
    parts = {each.breaker.name: each.breaker for each in (bus, *bus.members()) if isinstance(each, BrokerBus)}
    for name, each in parts.items():
        if each.state != "closed":
            yield name, each.state, each.seen.reason


def _outbox() -> dict[str, tuple[int, timedelta, int]]:
    """What waits for each bus, since when it is due, and what was set aside."""
    now, found = timezone.now(), dict[str, tuple[int, timedelta, int]]()
    for using in databases.every():
        rows = OutboxMessage.objects.using(using).order_by().values("bus", "state")
        for row in rows.annotate(count=Count("pk"), oldest=Min("available_at")):
            pending, lag, parked = found.get(row["bus"], _EMPTY)
            if row["state"] != "parked":
                pending, lag = pending + row["count"], max(now - row["oldest"], lag)
            else:
                parked += row["count"]
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
