"""What waits in the database and nobody comes for: rows of a bus that has moved, or of a group that is gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from django.db.models import Count

from koan_django.core.texts import counted
from koan_django.messaging import handlers
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.buses.database import DatabaseBus
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.models import OutboxMessage, QueuedDelivery
from koan_django.messaging.outgoing import databases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from koan_django.messaging.buses.base import Bus

_KINDS = {"delivery": ("queued delivery", "queued deliveries"), "outbox": ("outbox message", "outbox messages")}


@dataclass(frozen=True, slots=True)
class Leftover:
    """Rows of one bus, or of one of its groups, with the reason why nobody comes for them and what to do."""

    bus: str
    group: str
    kind: Literal["delivery", "outbox"]
    count: int
    why: str
    fix: str

    def __str__(self) -> str:
        one, many = _KINDS[self.kind]
        place = f"{self.bus}/{self.group}" if self.group else self.bus
        waiting = counted(self.count, f"{one} waits", f"{many} wait")
        return f"{place}: {waiting} in the database, and nobody comes: {self.why}. {self.fix}"


def leftovers(buses: Sequence[Bus]) -> list[Leftover]:
    """Return what nobody comes for, in two queries where one database has an outbox."""
    known = {bus.alias: bus for bus in buses}
    return [*_deliveries(known), *_outbox(known)]


def _deliveries(known: dict[str, Bus]) -> Iterator[Leftover]:
    rows = QueuedDelivery.objects.all().primary().order_by().values_list("bus", "group").annotate(Count("pk"))
    for alias, group, count in sorted(rows):
        bus = known.get(alias)
        if not isinstance(bus, DatabaseBus | ElectedBus):
            fix = "Run a worker with its URL of before, database://, until they are handled."
            yield Leftover(alias, group, "delivery", count, _moved(bus), fix)
        elif group not in handlers.on_bus(alias):
            fix = "Start a worker whose code has one."
            yield Leftover(alias, group, "delivery", count, "no code here has a handler for that group", fix)


def _outbox(known: dict[str, Bus]) -> Iterator[Leftover]:
    waiting: Counter[str] = Counter()
    for using in databases.every():
        rows = OutboxMessage.objects.using(using).filter(state="pending").order_by()
        waiting.update(dict(rows.values_list("bus").annotate(Count("pk"))))
    for alias, count in sorted(waiting.items()):
        bus = known.get(alias)
        if not isinstance(bus, BrokerBus | ElectedBus):
            fix = "Run a worker with its URL of before until they are published."
            yield Leftover(alias, "", "outbox", count, _moved(bus), fix)


def _moved(bus: Bus | None) -> str:
    return "no bus has that name" if bus is None else f"the bus is on {bus.place} now"
