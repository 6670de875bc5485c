"""The bus on Azure Service Bus."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from koan_django.messaging import handlers
from koan_django.messaging.buses.base import Capabilities, Pool
from koan_django.messaging.buses.broker import CONFIRMED, BrokerBus, Outcome
from koan_django.messaging.exceptions import BusUnavailableError

from .link import Link

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope
    from koan_django.messaging.handling.consumer import Consumer


class AzureBus(BrokerBus):
    """Sends a copy to the queue of each group that the sender's code knows: the service routes nothing here."""

    capabilities = Capabilities(transactional=False, durable=True, shared=True, ordered=False, priorities=False)

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        self._lock = threading.Lock()
        self._link = self.link()

    def link(self) -> Link:
        """Return a connection of one's own."""
        return Link(self.options.url or "", self.options.prefix)

    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        with self._lock:
            return [self._publish(envelope) for envelope in envelopes]

    def _publish(self, envelope: Envelope) -> Outcome:
        groups = [envelope.group] if envelope.group else handlers.groups_for(self.alias, envelope.alias)
        if not groups:
            return Outcome("returned", "no handler receives it")
        try:
            for group in groups:  # published again after half of them, the others' inbox drops the copy
                self._link.put(envelope, group)
        except BusUnavailableError as error:
            if type(error.__cause__).__name__ == "MessageSizeExceededError":
                return Outcome("impossible", "it is larger than this namespace allows")
            return Outcome("unknown", str(error))
        return CONFIRMED

    def consumer(self, pool: Pool) -> Consumer:
        from .consumer import AzureConsumer

        return AzureConsumer(self, pool)

    def probe(self) -> None:
        link = self.link()
        try:
            for group in handlers.on_bus(self.alias):
                with link.opened() as channel:
                    channel.queue_declare(queue=link.queue(group), durable=True)
        finally:
            link.close()

    def close(self) -> None:
        with self._lock:
            self._link.close()
