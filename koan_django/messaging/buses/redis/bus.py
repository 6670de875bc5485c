"""The bus on Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.messaging import handlers
from koan_django.messaging.buses.base import Capabilities, Depth, Pool
from koan_django.messaging.buses.broker import BrokerBus, Outcome

from . import scripts
from .names import Names
from .publisher import Publisher
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope
    from koan_django.messaging.handling.consumer import Consumer


class RedisBus(BrokerBus):
    """One database of a Redis server. It is as durable as the server's append-only file."""

    capabilities = Capabilities(transactional=False, durable=True, shared=True, ordered=False, priorities=True)

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        self.names = Names(options.prefix)
        self.server = Server(options)
        self._publisher = Publisher(self.server, self.names)

    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        return self._publisher.publish(envelopes)

    def consumer(self, pool: Pool) -> Consumer:
        from .consumer import RedisConsumer

        return RedisConsumer(self, pool)

    def depths(self) -> list[Depth]:
        return [self._depth(group) for group in handlers.on_bus(self.alias)]

    def _depth(self, group: str) -> Depth:
        entries, held, later = self.server.run(scripts.DEPTH, [*self.names.streams(group), self.names.later(group)])
        return Depth(group, entries - held + later, held)

    def probe(self) -> None:
        self.server.examine()

    def doubts(self) -> Iterable[str]:
        return self.server.doubts()

    def close(self) -> None:
        self.server.forget()
