"""One bus on several brokers, in an order that somebody has written down.

A message goes to the first broker that takes it; workers consume all of them, so nothing is stranded on one that was
left. Order is not kept across a switch, and a message whose confirm got lost in it may stand on two brokers: the inbox
knows it by the alias of the bus, which stands for the whole list.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from koan_django.core import facts
from koan_django.core.breaker import BreakerOpenError, breaker
from koan_django.core.facts import Alternative, Fact
from koan_django.core.redaction import redact_text
from koan_django.core.telemetry import emit

from . import registry
from .base import Capabilities, Depth
from .broker import POLICY, BrokerBus, Outcome
from .summing import depths_of, untold, with_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope
    from koan_django.messaging.handling.consumer import Consumer

    from .base import Pool

logger = logging.getLogger(__name__)

#: There is another broker, so it takes less until one is left alone.
_POLICY = replace(POLICY, failures=2)
#: After these another broker may take the message: in a queue that no worker has declared here yet, for one.
_OPEN = ("unsent", "unknown", "returned")


class FailoverBus(BrokerBus):
    """The broker of ``URL`` and those of ``FAILOVER``, the best first."""

    capabilities = Capabilities(transactional=False, durable=True, shared=True, ordered=False, priorities=False)

    def __init__(self, alias: str, options: BusOptions) -> None:
        first = replace(options.undivided, failover=(), failover_management=())
        # MANAGEMENT leads to the first broker; an empty one says that none is asked.
        usual = [options.management and None] * len(options.failover)
        places = zip(options.failover, options.failover_management or usual, strict=True)
        others = [replace(first, url=url, management=management) for url, management in places]
        self.brokers = [_made(alias, each, place) for place, each in enumerate([first, *others])]
        super().__init__(alias, options)  # last: the breaker of the alias is that of all of them together
        self._current = self.brokers[0]
        self._record(self._current, "the first of the list")

    @property
    def current(self) -> BrokerBus:
        """The broker that took what was published last, or is the next to be tried."""
        return self._current

    @property
    def place(self) -> str:
        return self.current.place

    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        outcomes: list[Outcome] = []
        waiting = list(range(len(envelopes)))
        why = ""
        for broker in self.brokers:
            answers = self._try(broker, [envelopes[index] for index in waiting], delay)
            if any(answer.state == "confirmed" for answer in answers):
                self.use(broker, why)
            outcomes = outcomes or list(answers)
            for index, answer in zip(waiting, answers, strict=True):
                outcomes[index] = _better(outcomes[index], answer)
            waiting = [index for index in waiting if outcomes[index].state in _OPEN]
            if not waiting:
                break
            why = why or outcomes[waiting[0]].reason
        return outcomes

    def can_delay(self, envelopes: Sequence[Envelope], delay: timedelta) -> bool:
        return self._current.can_delay(envelopes, delay)

    def consumer(self, pool: Pool) -> Consumer:
        return self.brokers[0].consumer(pool)

    def consumers(self, pool: Pool) -> list[Consumer]:
        return [broker.consumer(pool) for broker in self.brokers]

    def members(self) -> Sequence[BrokerBus]:
        return self.brokers

    def probe(self) -> None:
        """Raise unless one of the brokers answers."""
        errors: list[Exception] = []
        for broker in self.brokers:
            try:
                return broker.probe()
            except Exception as error:
                errors.append(error)
        raise errors[0]

    @property
    def publisher_state(self) -> str:
        return f"{self._current.label}: {self._current.publisher_state}"

    def depths(self) -> list[Depth]:
        """Of each group on all brokers; one that is away is noted. Raises when none of them answers."""
        told = {broker: self._asked(broker) for broker in self.brokers}
        if all(depth.note for found in told.values() for depth in found):
            self.brokers[-1].depths()  # what keeps it from answering
        summed = {depth.group: Depth(depth.group, 0, -1) for depth in told[self.brokers[0]]}
        for broker, found in told.items():
            for depth in found:
                known = with_part(summed[depth.group], depth, _name(broker))
                summed[depth.group] = replace(known, consumers=max(known.consumers, depth.consumers))
        return list(summed.values())

    @property
    def better(self) -> list[BrokerBus]:
        """The brokers that stand before the current one."""
        return self.brokers[: self.brokers.index(self._current)]

    def close(self) -> None:
        for broker in self.brokers:
            broker.close()
        facts.forget(f"messaging.bus.{self.alias}")

    def use(self, broker: BrokerBus, why: str = "") -> None:
        """Say that messages go to ``broker`` now, and ``why`` not to the one before."""
        before, self._current = self._current, broker
        if broker is before:
            return
        back = self.brokers.index(broker) < self.brokers.index(before)
        reason = f"{broker.label} is back" if back else f"{before.label} failed: {redact_text(why)}"
        self._record(broker, reason)
        logger.warning("The bus %s publishes to %s: %s", self.alias, broker.label, reason)
        emit("messaging.failover", bus=self.alias, before=before.label, selection=broker.label, reason=reason)

    def _asked(self, broker: BrokerBus) -> list[Depth]:
        """Nobody waits for a broker that has failed others."""
        refusal = broker.breaker.refusal()
        if refusal is not None:
            return untold(_name(broker), broker, refusal.why or str(refusal))
        return depths_of(_name(broker), broker)

    def _try(self, broker: BrokerBus, envelopes: Sequence[Envelope], delay: timedelta | None) -> list[Outcome]:
        if broker.unreachable:  # this process knows already, and goes on trying by itself
            return [Outcome("unsent", broker.unreachable)] * len(envelopes)
        try:
            permit = broker.breaker.admit()
        except BreakerOpenError as error:
            return [Outcome("unsent", str(error))] * len(envelopes)
        return broker.attempt(permit, envelopes, delay)

    def _record(self, chosen: BrokerBus, reason: str) -> None:
        others = tuple(
            Alternative(f"{each.label} {each.place}", each.breaker.seen.reason or "further down the list")
            for each in self.brokers
            if each is not chosen
        )
        facts.record(Fact(f"messaging.bus.{self.alias}", f"{chosen.label} {chosen.place}", reason, others))


def _better(before: Outcome, answer: Outcome) -> Outcome:
    """What two brokers amount to. That nobody receives a message is true only where all of them have said so."""
    if answer.state not in _OPEN:
        return answer
    return answer if before.state == "returned" else before


def _name(broker: BrokerBus) -> str:
    """How a broker is called within its list."""
    return broker.label.rpartition(".")[2]


def _made(alias: str, options: BusOptions, place: int) -> BrokerBus:
    made = registry.make(alias, options)
    assert isinstance(made, BrokerBus)  # the settings allow no other
    made.label = f"{alias}.failover-{place}" if place else f"{alias}.primary"
    made.redundant = True
    made.breaker = breaker(f"messaging.{made.label}", _POLICY, origin=__name__)
    return made
