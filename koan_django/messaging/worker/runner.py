"""The bus threads of one process: a consumer for each bus that has handlers, a relay for each broker, and whoever
takes the depths of queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import reporter
from koan_django.core.telemetry import emit
from koan_django.messaging import handlers, lifecycle, requirements
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.buses.failover import FailoverBus
from koan_django.messaging.outgoing import databases
from koan_django.messaging.outgoing.relay import Relay
from koan_django.messaging.statistics.sampling import DepthSampler

from .elector import Elector
from .standby import Standby

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from koan_django.messaging.buses.base import Bus, Pool
    from koan_django.messaging.handling.consumer import Consumer

    Thread: TypeAlias = Consumer | Relay | Elector | Standby | DepthSampler

STOP_SECONDS = 5.0


class BusRunner:
    """Starts, drains and stops them together."""

    def __init__(self, pool: Pool) -> None:
        requirements.enforce()
        buses = registry.all_buses()
        self.consumers: list[Consumer] = [
            consumer for bus in buses if handlers.on_bus(bus.alias) for consumer in bus.consumers(pool)
        ]
        self.relays = [
            relay
            for bus in buses
            if isinstance(bus, BrokerBus)
            for relay in _relays(bus, [each for each in self.consumers if each.bus.alias == bus.alias])
        ]
        self.electors = [
            Elector(bus, self.adopt)
            for bus in buses
            if isinstance(bus, ElectedBus) and bus.candidates and handlers.on_bus(bus.alias)
        ]
        self.standbys = [
            Standby(bus, [each for each in self.consumers if each.bus in bus.brokers])
            for bus in buses
            if isinstance(bus, FailoverBus)
        ]
        self.samplers = [DepthSampler(buses)] if self.consumers else []
        self._pool = pool
        self._adopted: dict[Bus, Consumer] = {}

    def start(self) -> None:
        """Start every thread and report its health."""
        threads: list[Thread] = [*self.consumers, *self.relays, *self.electors, *self.standbys, *self.samplers]
        for thread in threads:
            _start(thread)

    def adopt(self, bus: Bus) -> Consumer:
        """Consume an elected bus as well, and relay to it alone; return its consumer, the same each time."""
        if bus not in self._adopted:
            for relay in [each for each in self.relays if each.bus.alias == bus.alias]:
                _stop(relay)
                self.relays.remove(relay)
            consumer = self._adopted[bus] = bus.consumer(self._pool)
            self.consumers.append(consumer)
            _start(consumer)
            for relay in _relays(bus, [consumer]) if isinstance(bus, BrokerBus) else ():
                self.relays.append(relay)
                _start(relay)
        return self._adopted[bus]

    @property
    def is_busy(self) -> bool:
        """Whether a consumer is at work; after :meth:`drain` each ends by itself."""
        return any(consumer.is_alive() for consumer in self.consumers)

    def drain(self) -> None:
        """Fetch nothing more; what is in flight goes on. :attr:`is_busy` tells when all of it is settled."""
        for elector in self.electors:  # first: it would start another consumer
            elector.stop(STOP_SECONDS)
        for consumer in self.consumers:
            consumer.drain()
        emit("messaging.draining", consumers=len(self.consumers))

    def stop(self) -> None:
        """End the threads. What is still in flight is handed out again, here or elsewhere."""
        threads: list[Thread] = [*self.samplers, *self.electors, *self.standbys, *self.relays, *self.consumers]
        for thread in threads:
            _stop(thread)
        lifecycle.forget(consumer.bus for consumer in self.consumers)


def _relays(bus: BrokerBus, consumers: Sequence[Consumer]) -> list[Relay]:
    """One for each database that has an outbox."""
    return [Relay(bus, consumers, using) for using in databases.every()]


def _start(thread: Thread) -> None:
    reporter.source(thread.name)(thread.finding)
    thread.start()


def _stop(thread: Thread) -> None:
    thread.stop(STOP_SECONDS)
    reporter.remove(thread.name)
