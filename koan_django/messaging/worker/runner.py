"""The bus threads of one process: a consumer for each bus that has handlers, a relay for each broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import reporter
from koan_django.core.telemetry import emit
from koan_django.messaging import handlers
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.relay import Relay

if TYPE_CHECKING:
    from koan_django.messaging.buses.base import Pool
    from koan_django.messaging.consumer import Consumer

STOP_SECONDS = 5.0


class BusRunner:
    """Starts, drains and stops them together."""

    def __init__(self, pool: Pool) -> None:
        buses = registry.all_buses()
        self.consumers: list[Consumer] = [bus.consumer(pool) for bus in buses if handlers.on_bus(bus.alias)]
        self.relays = [Relay(bus) for bus in buses if isinstance(bus, BrokerBus)]

    def start(self) -> None:
        """Start every thread and report its health."""
        threads: list[Consumer | Relay] = [*self.consumers, *self.relays]
        for thread in threads:
            reporter.source(thread.name)(thread.finding)
            thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a consumer is at work; after :meth:`drain` each ends by itself."""
        return any(consumer.is_alive() for consumer in self.consumers)

    def drain(self) -> None:
        """Fetch nothing more; what is in flight goes on. :attr:`is_busy` tells when all of it is settled."""
        for consumer in self.consumers:
            consumer.drain()
        emit("messaging.draining", consumers=len(self.consumers))

    def stop(self) -> None:
        """End the threads. What is still in flight is handed out again, here or elsewhere."""
        for thread in (*self.relays, *self.consumers):
            thread.stop(STOP_SECONDS)
            reporter.remove(thread.name)
