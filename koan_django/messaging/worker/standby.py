"""Watches the brokers of a bus that has several: a thread of the worker's main process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import health
from koan_django.core.breaker import BreakerOpenError
from koan_django.core.redaction import redact_text
from koan_django.core.threads import DatabaseThread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.messaging.buses.broker import BrokerBus
    from koan_django.messaging.buses.failover import FailoverBus
    from koan_django.messaging.handling.consumer import Consumer

PERIOD_SECONDS = 1.0


class Standby(DatabaseThread):
    """Notices that a broker is back although nobody publishes, and says how the list does."""

    def __init__(self, bus: FailoverBus, consumers: Sequence[Consumer]) -> None:
        super().__init__(f"koan-failover-{bus.alias}")
        self.bus = bus
        self.consumers = consumers

    def work(self) -> None:
        while not self.stopping.wait(PERIOD_SECONDS):
            for broker in self.bus.better:
                if self._is_back(broker):
                    self.bus.use(broker)
                    break

    def _is_back(self, broker: BrokerBus) -> bool:
        """Ask ``broker``, as far as its breaker allows. It is back once this process has a connection again as well."""
        try:
            with self.turn():
                permit = broker.breaker.admit()
        except BreakerOpenError:
            return False
        trouble = _trouble(broker)
        with self.turn():
            if trouble:
                broker.breaker.failed(permit, trouble)
            else:
                broker.breaker.conclude(permit)
        if not trouble and broker.unreachable:
            broker.try_again()
            return False
        return not trouble

    def finding(self) -> health.Finding:
        """Degraded while messages go to another broker than the first, or one of them is not consumed."""
        name, first = f"messaging.failover.{self.bus.alias}", self.bus.brokers[0]
        silent = [each.bus.label for each in self.consumers if not each.consuming]
        current = self.bus.current
        data = {"publishes_to": current.label, "not_consumed": silent}
        if self.consumers and len(silent) == len(self.consumers):
            return health.Finding(name, "unhealthy", "no broker is consumed", critical=True, data=data)
        if current is not first or silent:
            text = f"publishing to {current.label}"
            text += f": {first.breaker.seen.reason}" if current is not first else ""
            text += f"; not consumed: {', '.join(silent)}" if silent else ""
            return health.Finding(name, "degraded", text, critical=True, data=data)
        return health.Finding(name, "healthy", f"publishing to {current.label}", critical=True, data=data)


def _trouble(broker: BrokerBus) -> str:
    try:
        broker.probe()
    except Exception as error:  # whatever it is, the broker is not back
        return redact_text(f"{type(error).__name__}: {error}")
    return ""
