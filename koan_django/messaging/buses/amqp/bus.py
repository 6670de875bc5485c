"""The bus on RabbitMQ."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from koan_django.messaging import handlers
from koan_django.messaging.buses.base import Capabilities, Depth, Pool
from koan_django.messaging.buses.broker import BrokerBus, Outcome
from koan_django.messaging.handling.fairness import consumers_of
from koan_django.messaging.routing import partition_in, routing_key

from .link import Link
from .names import Names
from .publisher import Publisher
from .topology import delay_header, steps_of, topology_of
from .unconfirmed import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope
    from koan_django.messaging.handling.consumer import Consumer

    from .topology import Topology


class AmqpBus(BrokerBus):
    """One virtual host of a RabbitMQ. Connections are made on first use, and anew in a forked child."""

    capabilities = Capabilities(
        transactional=False, durable=True, shared=True, ordered=True, priorities=False, isolated=True
    )
    begins = True

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        self.names = Names(options.prefix)
        #: Of the tenants that have queues of their own.
        self._apart = {section: replace(self.names, section=section) for section in options.sections}
        #: By process id, the locks too: one that another thread held at a fork stays locked in the child.
        self._publishers: dict[int, Publisher] = {}
        self._locks: dict[int, threading.Lock] = {}

    @property
    def publisher(self) -> Publisher:
        """The publisher of this process."""
        pid = os.getpid()
        found = self._publishers.get(pid)
        if found is not None and found.serves:
            return found
        with self._locks.setdefault(pid, threading.Lock()):
            found = self._publishers.get(pid)
            if found is None or not found.serves:
                found = Publisher(self.options, self.names)
                found.start()
                self._publishers[pid] = found
            return found

    @property
    def publisher_state(self) -> str:
        found = self._publishers.get(os.getpid())
        if found is None or not found.serves:
            return "not needed yet in this process"
        return found.error or "publishes"

    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        publications = list(map(self._publication, envelopes)) if delay is None else self._delayed(envelopes, delay)
        return self.publisher.publish(publications)

    def begin(self, envelopes: Sequence[Envelope]) -> Callable[[], list[Outcome]]:
        return self.publisher.begin(list(map(self._publication, envelopes)))

    async def apublish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        publications = list(map(self._publication, envelopes)) if delay is None else self._delayed(envelopes, delay)
        return await self.publisher.apublish(publications)

    def _delayed(self, envelopes: Sequence[Envelope], delay: timedelta) -> list[Publication]:
        steps = steps_of(delay)
        exchange, headers = self.names.delay(steps[0]), {delay_header(step): True for step in steps}
        return [Publication(exchange, each.routing_key, each, headers) for each in envelopes]

    def can_delay(self, envelopes: Sequence[Envelope], delay: timedelta) -> bool:
        """On the ladder, for so long as it reaches. It leads to whoever receives the alias, in the shared queues."""
        return delay <= self.options.delay_in_broker and not any(
            each.group or self.options.section_of(each.tenant) for each in envelopes
        )

    def _publication(self, envelope: Envelope) -> Publication:
        """Address a message by its alias, or to one group.

        A sender need not know whether that group is ordered: what has no key is always in the queue of its name.
        """
        names = self._apart.get(self.options.section_of(envelope.tenant), self.names) if self._apart else self.names
        if not envelope.group:
            return Publication(names.exchange, envelope.routing_key, envelope)
        partition = partition_in(envelope.routing_key)
        if partition is None:
            return Publication("", names.group(envelope.group), envelope)
        return Publication(names.direct, routing_key(envelope.group, partition), envelope)

    def topology(self) -> Topology:
        """Return what must stand on the broker for the handlers of this process."""
        return topology_of(self.names, self.options, handlers.on_bus(self.alias))

    def consumer(self, pool: Pool) -> Consumer:
        from .consumer import AmqpConsumer

        return AmqpConsumer(self, pool)

    def consumers(self, pool: Pool) -> list[Consumer]:
        return consumers_of(self.parts(), pool)

    def parts(self) -> list[AmqpBus]:
        """Return what is consumed apart: this bus, and its sections."""
        return [self, *(SectionBus(self, section) for section in self._apart)]

    def depths(self) -> list[Depth]:
        from .depths import depths_of

        return depths_of(self, [self.names, *self._apart.values()], handlers.on_bus(self.alias))

    def probe(self) -> None:
        link = Link(self.options.url or "", "probe")
        try:
            link.connect()
        finally:
            link.disconnect()

    @property
    def unreachable(self) -> str:
        found = self._publishers.get(os.getpid())
        return found.unreachable if found is not None else ""

    def try_again(self) -> None:
        found = self._publishers.get(os.getpid())
        if found is not None:
            found.try_again()

    def close(self) -> None:
        found = self._publishers.pop(os.getpid(), None)
        if found is not None:
            found.stop()


class SectionBus(AmqpBus):
    """What is consumed of one section of ``whole``: a tenant's exchange and queues, or those of a lane of tenants.

    Messages come to it by ``whole``, and its retries and dead letters go by the publisher of ``whole``.
    """

    def __init__(self, whole: AmqpBus, section: str) -> None:
        # Without a ladder: it leads to the shared queues.
        super().__init__(whole.alias, replace(whole.options.undivided, delay_in_broker=timedelta(0)))
        self.names = replace(whole.names, section=section)
        self.label = f"{whole.label}.{section}"
        self._whole = whole

    @property
    def publisher(self) -> Publisher:
        return self._whole.publisher
