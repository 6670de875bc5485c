"""The bus of a project that gives none a URL: the best broker that a worker has found live, else the database.

Workers elect, since they are the ones who receive; see :mod:`koan_django.messaging.worker.elector`. Everybody else
follows what they have proclaimed and asks no broker about anything. So sending is accepted at all times, and whatever
is sent meanwhile has somebody who receives it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from koan_django.core.election import proclaimed
from koan_django.core.policy import Cached
from koan_django.messaging.outgoing import outbox

from . import registry
from .base import Bus, Capabilities
from .database import DatabaseBus
from .summing import depths_of, with_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.core.election import Candidate
    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Delivery, Envelope, Receipt
    from koan_django.messaging.handling.consumer import Consumer

    from .base import Depth, Due, Pool


class ElectedBus(Bus):
    """The database, and one of ``brokers``, the best first, while it is elected."""

    #: What holds whichever is elected.
    capabilities = Capabilities(transactional=False, durable=True, shared=True, ordered=True, priorities=False)

    def __init__(self, alias: str, options: BusOptions, brokers: Sequence[Candidate[str]] = ()) -> None:
        super().__init__(alias, options.undivided)
        self.database = DatabaseBus(alias, replace(options, url="database://"))
        self.candidates = {each.name: each for each in brokers}
        self.subject = f"messaging.bus.{alias}"
        self._made: dict[str, Bus] = {}
        self._proclaimed = Cached(lambda: proclaimed(self.subject))

    @property
    def current(self) -> Bus:
        """The bus that is elected now. Where there is no broker to follow, nobody is asked."""
        name = self.elected
        return self.broker(name) if name in self.candidates else self.database

    @property
    def elected(self) -> str:
        """The name of the candidate that was proclaimed, if any; this process may not know it."""
        return self._proclaimed() if self.candidates else ""

    @property
    def place(self) -> str:
        return self.current.place

    def broker(self, name: str) -> Bus:
        """Return the bus on the broker called ``name``, made on first use."""
        found = self._made.get(name)
        if found is None:
            found = registry.make(self.alias, replace(self.options, url=self.candidates[name].value))
            found.label = f"{self.alias}.{name.partition('://')[2]}"
            found = self._made.setdefault(name, found)
        return found

    def send(self, envelopes: Sequence[Envelope], due: Due, using: str | None = None) -> list[Receipt]:
        return self.current.send(envelopes, due, using)

    async def asend(self, envelope: Envelope, due: Due, using: str | None = None) -> Receipt:
        current = await sync_to_async(lambda: self.current)()
        return await current.asend(envelope, due, using)

    def consumer(self, pool: Pool) -> Consumer:
        """Return the consumer of the database, where messages may come at any time."""
        return self.database.consumer(pool)

    def cancel(self, message_id: str) -> bool:
        return self.database.cancel(message_id) or outbox.cancel(self.alias, message_id)

    def complete(self, deliveries: Sequence[Delivery]) -> None:
        rows = [each for each in deliveries if each.token]  # a lease has a token, a broker's delivery none
        if rows:
            self.database.complete(rows)

    def depths(self) -> list[Depth]:
        """Of each group on the broker and in the database together; a broker that is away is noted."""
        current, rows = self.current, {each.group: each for each in self.database.depths()}
        if current is self.database:
            return list(rows.values())
        return [_with_rows(each, rows[each.group]) for each in depths_of(current.place, current)]

    def close(self) -> None:
        for made in self._made.values():
            made.close()


def _with_rows(broker: Depth, rows: Depth) -> Depth:
    """What waits on the broker and in the database together. A broker does not say what is in progress."""
    return replace(with_part(broker, rows, "database"), in_progress=rows.in_progress or -1)
