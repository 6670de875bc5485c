"""The virtual hosts that the buses of this project live in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from koan_django.messaging.buses import registry
from koan_django.messaging.buses.amqp import AmqpBus
from koan_django.messaging.buses.amqp.topology import Topology
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.buses.failover import FailoverBus
from koan_django.messaging.buses.tenants import TenantsBus
from koan_django.messaging.conf import BusOptions
from koan_django.messaging.exceptions import InspectionError

from .management import Management, management_of, vhost_of
from .ownership import owned
from .plans import Plan, plan
from .standing import Standing, inspect

if TYPE_CHECKING:
    from koan_django.messaging.buses.base import Bus


@dataclass(frozen=True, slots=True)
class Target:
    """One virtual host of a bus, and what must stand there. ``label`` tells it from the others of its bus."""

    bus: str
    options: BusOptions
    wanted: Topology = field(repr=False)
    place: str = ""
    label: str = ""

    @property
    def url(self) -> str:
        """The URL of AMQP; it may hold references to secrets."""
        return self.options.url or ""

    @property
    def is_asked(self) -> bool:
        """Whether its broker may be asked: an empty ``MANAGEMENT`` says that there is no API."""
        return self.options.management != ""

    @property
    def vhost(self) -> str:
        """The name of the virtual host."""
        return vhost_of(self.url)

    def management(self) -> Management:
        """Return the API that is asked."""
        if not self.is_asked:
            raise InspectionError(
                f"what stands on the broker of the bus {self.bus!r} is unknown",
                why="its option MANAGEMENT is empty, so nobody is asked",
                fix="Give it the URL of the management API.",
            )
        return management_of(self.url, self.options.management)

    def inspect(self) -> Standing:
        """Ask what stands there. Raises :class:`InspectionError` when that cannot be known."""
        return inspect(self.management(), self.vhost)

    def plan(self) -> Plan:
        """Compare what stands with what is wanted; asks the broker and the records of what is ours."""
        standing = self.inspect()
        return plan(self.wanted, standing, owned(self.bus, standing.broker, standing.vhost))


def targets() -> list[Target]:
    """Return the virtual hosts of all buses on RabbitMQ, of an elected one where it is elected now."""
    found = (bus.current if isinstance(bus, ElectedBus) else bus for bus in registry.all_buses())
    return [target for bus in found for target in of_bus(bus)]


def of_bus(bus: Bus) -> list[Target]:
    """Return the virtual hosts of one bus; other buses than RabbitMQ's have none."""
    if isinstance(bus, FailoverBus | TenantsBus):
        return [target for broker in bus.brokers for target in of_bus(broker)]
    return [Target(bus.alias, bus.options, bus.topology(), bus.place, bus.label)] if isinstance(bus, AmqpBus) else []
