"""What buses on a broker have in common: a confirmed publish, with the outbox behind it."""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from django.db import DatabaseError
from django.utils import timezone

from koan_django.core.breaker import BreakerOpenError, breaker
from koan_django.core.circuits import BreakerPolicy
from koan_django.messaging import events, outbox
from koan_django.messaging.envelope import Receipt
from koan_django.messaging.exceptions import MessagingError, UnroutableError

from .base import Bus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from koan_django.core.circuits import Permit
    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope

    from .base import Due

logger = logging.getLogger(__name__)

#: The publisher of a process that noticed by itself tries again as often.
POLICY = BreakerPolicy(failures=5, max_open=timedelta(seconds=15))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a publish.

    ``confirmed``: the broker has it. ``returned``: it routes nowhere. ``refused``: the broker said no (a full queue).
    ``unknown``: it was written and not answered; published again it keeps its id. ``unsent``: it was never written.
    ``impossible``: it can never be written to this broker.
    """

    state: Literal["confirmed", "returned", "refused", "unknown", "unsent", "impossible"]
    reason: str = ""


CONFIRMED = Outcome("confirmed")


class BrokerBus(Bus):
    """Publishes at once outside a transaction; what cannot be published now waits in the outbox.

    A breaker that all processes share keeps callers from waiting for a broker that has failed others. The relay does
    not ask it: there is one for each bus, and it goes on trying.
    """

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        self.breaker = breaker(f"messaging.{alias}", POLICY, origin=__name__)

    @property
    def publisher_state(self) -> str:
        """How the publisher of this process is."""
        return ""

    @abstractmethod
    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        """Publish and wait for the broker's answers, in order. Does not raise for a broker that is away.

        With a ``delay`` that it :meth:`can_delay` the broker keeps them for so long.
        """

    def can_delay(self, envelopes: Sequence[Envelope], delay: timedelta) -> bool:
        """Whether the broker itself can keep ``envelopes`` for ``delay``."""
        return False

    def send(self, envelopes: Sequence[Envelope], due: Due) -> list[Receipt]:
        delay = (_from_now(due) or None) if due is not None else None
        if outbox.must_store(self.alias, envelopes) or (delay is not None and not self.can_delay(envelopes, delay)):
            return outbox.store(self.alias, envelopes, due)
        try:
            permit = self.breaker.admit()
        except BreakerOpenError as error:  # another process has found out already: nobody waits for the broker
            return outbox.store(self.alias, envelopes, due, error=str(error))
        return self._settle(envelopes, due, self.attempt(permit, envelopes, delay))

    def cancel(self, message_id: str) -> bool:
        return outbox.cancel(self.alias, message_id)

    @property
    def unreachable(self) -> str:
        """Why this process does not reach the broker now, as far as it has tried; it goes on trying by itself."""
        return ""

    def try_again(self) -> None:
        """The broker answers somebody else: do not wait any longer before the next attempt to connect."""

    def attempt(self, permit: Permit, envelopes: Sequence[Envelope], delay: timedelta | None) -> list[Outcome]:
        """Publish, and tell the breaker whether the broker answered."""
        try:
            outcomes = self.publish(envelopes, delay)
        except BaseException as error:
            self.breaker.conclude(permit, error)
            raise
        silent = next((outcome for outcome in outcomes if outcome.state in ("unknown", "unsent")), None)
        if silent is None:
            self.breaker.conclude(permit)
        else:
            self.breaker.failed(permit, silent.reason)
        return outcomes

    def _settle(self, envelopes: Sequence[Envelope], due: Due, outcomes: list[Outcome]) -> list[Receipt]:
        """Record what was confirmed, keep what was not; then report what can reach nobody."""
        pairs = list(zip(envelopes, outcomes, strict=True))
        confirmed = [envelope for envelope, outcome in pairs if outcome.state == "confirmed"]
        self._note(confirmed)
        receipts = {envelope.id: Receipt(envelope.id, "published", self.alias) for envelope in confirmed}
        kept = [(e, o) for e, o in pairs if o.state in ("refused", "unknown", "unsent")]
        if kept:
            stored = outbox.store(self.alias, [e for e, _ in kept], due, error=kept[0][1].reason)
            receipts.update({receipt.id: receipt for receipt in stored})
        for envelope, outcome in pairs:
            if outcome.state in ("returned", "impossible"):
                raise self._hopeless(envelope, outcome, len(pairs))
        return [receipts[envelope.id] for envelope in envelopes]

    def _note(self, confirmed: Sequence[Envelope]) -> None:
        """Write the events of messages that the broker has. A failure here must not make anybody send them again."""
        try:
            events.record(events.event(kind, self.alias, each) for each in confirmed for kind in ("sent", "published"))
        except DatabaseError as error:
            logger.warning("%d messages were published and their events not written: %s", len(confirmed), error)

    def _hopeless(self, envelope: Envelope, outcome: Outcome, sent: int) -> MessagingError:
        others = f" Of the {sent} messages of this call, those that can travel were sent." if sent > 1 else ""
        if outcome.state == "impossible":
            return MessagingError(
                f"{envelope.alias} cannot travel on the bus {self.alias!r}",
                why=outcome.reason,
                fix=f"Make its keys and header fields shorter.{others}",
            )
        return UnroutableError(
            f"{envelope.alias} reaches nobody on the bus {self.alias!r}",
            why=f"{outcome.reason}: nobody has bound one",
            fix=f"Start a worker whose handlers receive it: it declares the queues.{others}",
        )


def _from_now(due: datetime | timedelta) -> timedelta:
    return due if isinstance(due, timedelta) else max(due - timezone.now(), timedelta(0))
