"""One bus on which some tenants have a virtual host, or a whole broker, of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from koan_django.core.breaker import breaker
from koan_django.messaging.conf import QUEUES, place_of
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.handling.fairness import consumers_of

from .amqp import AmqpBus
from .broker import POLICY, BrokerBus, Outcome
from .summing import depths_of, with_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope, Receipt
    from koan_django.messaging.handling.consumer import Consumer

    from .base import Depth, Due, Pool


class TenantsBus(BrokerBus):
    """The broker of ``URL`` and those of tenants. Each has its own connection and breaker: one that is away is alone.

    Outbox, relay, inbox and handlers know only the alias.
    """

    capabilities = AmqpBus.capabilities

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        queues = {name: place for name, place in options.tenants.items() if place == QUEUES}
        self.shared = AmqpBus(alias, replace(options, tenants=queues))
        self.own = {name: _made(alias, options, name) for name in options.tenants if name not in queues}

    @property
    def brokers(self) -> list[AmqpBus]:
        """The shared one first."""
        return [self.shared, *self.own.values()]

    def send(self, envelopes: Sequence[Envelope], due: Due, using: str | None = None) -> list[Receipt]:
        receipts: dict[int, Receipt] = {}
        errors: list[MessagingError] = []
        for broker, indices in self._by_broker(envelopes):
            try:
                answers = broker.send([envelopes[index] for index in indices], due, using)
            except MessagingError as error:  # what the others take is sent
                errors.append(error)
            else:
                receipts |= dict(zip(indices, answers, strict=True))
        if errors:
            raise errors[0]
        return [receipts[index] for index in range(len(envelopes))]

    async def asend(self, envelope: Envelope, due: Due, using: str | None = None) -> Receipt:
        return await self._broker_of(envelope).asend(envelope, due, using)

    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        """Publish for the relay. What one broker cannot take now steps aside: others wait behind it."""
        outcomes: dict[int, Outcome] = {}
        for broker, indices in self._by_broker(envelopes):
            answers = broker.publish([envelopes[index] for index in indices], delay)
            outcomes |= dict(zip(indices, map(_aside, answers), strict=True))
        return [outcomes[index] for index in range(len(envelopes))]

    def consumer(self, pool: Pool) -> Consumer:
        return self.shared.consumer(pool)

    def consumers(self, pool: Pool) -> list[Consumer]:
        return consumers_of([part for broker in self.brokers for part in broker.parts()], pool)

    def members(self) -> Sequence[AmqpBus]:
        return self.brokers

    @property
    def publisher_state(self) -> str:
        return self.shared.publisher_state

    @property
    def unreachable(self) -> str:
        return self.shared.unreachable

    def try_again(self) -> None:
        for broker in self.brokers:
            broker.try_again()

    def depths(self) -> list[Depth]:
        """Of each group everywhere; a tenant's broker that does not answer is noted, and the others are told."""
        found = {depth.group: depth for depth in self.shared.depths()}
        for name, broker in self.own.items():
            for depth in depths_of(name, broker):
                found[depth.group] = with_part(found[depth.group], depth, name)
        return list(found.values())

    def probe(self) -> None:
        for broker in self.brokers:
            broker.probe()

    def close(self) -> None:
        for broker in self.brokers:
            broker.close()

    def _broker_of(self, envelope: Envelope) -> AmqpBus:
        return self.own.get(envelope.tenant, self.shared)

    def _by_broker(self, envelopes: Sequence[Envelope]) -> Iterator[tuple[AmqpBus, list[int]]]:
        """Yield each broker with the places of its messages, in their order."""
        places: dict[AmqpBus, list[int]] = {}
        for index, envelope in enumerate(envelopes):
            places.setdefault(self._broker_of(envelope), []).append(index)
        yield from places.items()


def _made(alias: str, options: BusOptions, name: str) -> AmqpBus:
    url = options.tenants[name]
    here = place_of(url).partition("/")[0] == place_of(options.url or "").partition("/")[0]
    # MANAGEMENT leads to the broker of URL; an empty one says that none is asked.
    management = options.management if here or not options.management else None
    made = AmqpBus(alias, replace(options.undivided, url=url, management=management))
    made.label = f"{alias}.{name}"
    made.redundant = True  # without it the others are served
    made.breaker = breaker(f"messaging.{made.label}", POLICY, origin=__name__)
    return made


def _aside(outcome: Outcome) -> Outcome:
    """For the relay, a broker that does not answer has refused: it goes on with the messages of others."""
    return replace(outcome, state="refused") if outcome.state in ("unsent", "unknown") else outcome
