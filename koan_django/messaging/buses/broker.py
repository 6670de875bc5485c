"""What buses on a broker have in common: a confirmed publish, with the outbox behind it."""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.utils import timezone

from koan_django.core import clock, health
from koan_django.core.breaker import BreakerOpenError, breaker
from koan_django.core.circuits import BreakerPolicy, Permit
from koan_django.core.stores import STORE_ERRORS
from koan_django.core.texts import counted
from koan_django.messaging import events, lifecycle
from koan_django.messaging.conf import options
from koan_django.messaging.envelope import Receipt
from koan_django.messaging.exceptions import MessagingError, UnroutableError
from koan_django.messaging.outgoing import outbox

from .base import Bus
from .gathering import Gathering

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope

    from .base import Due

logger = logging.getLogger(__name__)

#: The publisher of a process that noticed by itself tries again as often.
POLICY = BreakerPolicy(failures=5, max_open=timedelta(seconds=15))
#: How often health is told, which forgets after 30 s.
TELL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a publish.

    ``confirmed``: the broker has it. ``returned``: it routes nowhere. ``refused``: the broker said no (a full queue).
    ``unknown``: it was written and not answered; published again it keeps its id. ``unsent``: it was never written.
    ``impossible``: it can never be written to this broker.
    """

    state: Literal["confirmed", "returned", "refused", "unknown", "unsent", "impossible"]
    reason: str = ""


#: Counted where all of a list may be it: that takes no step of Python's for each.
CONFIRMED = Outcome("confirmed")
#: The broker did not answer, and what waits in the outbox therefore or because it was refused.
_SILENT = frozenset({"unknown", "unsent"})
_KEPT = _SILENT | {"refused"}


class _Admitted(msgspec.Struct, frozen=True):
    """What may be published, and with which delay."""

    permit: Permit
    delay: timedelta | None


class BrokerBus(Bus):
    """Publishes at once outside a transaction; what cannot be published now waits in the outbox.

    A breaker that all processes share keeps callers from waiting for a broker that has failed others. The relay does
    not ask it: there is one for each bus, and it goes on trying.
    """

    #: Whether :meth:`begin` comes back before the broker has answered.
    begins: ClassVar[bool] = False

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        if options.priorities:
            self.capabilities = replace(self.capabilities, priorities=True)
        self.breaker = breaker(f"messaging.{alias}", POLICY, origin=__name__)
        self._gathering = Gathering(self._asend_all)
        #: When health was told that nothing can be published.
        self._told: float | None = None
        #: Whether it is known how far this bus has come here.
        self._is_known = False

    @property
    def publisher_state(self) -> str:
        """How the publisher of this process is."""
        return ""

    @abstractmethod
    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        """Publish and wait for the broker's answers, in order. Does not raise for a broker that is away.

        With a ``delay`` that it :meth:`can_delay` the broker keeps them for so long.
        """

    def begin(self, envelopes: Sequence[Envelope]) -> Callable[[], list[Outcome]]:
        """Begin to publish, and return what waits for the outcomes. A bus that cannot do so waits at once."""
        outcomes = self.publish(envelopes)
        return lambda: outcomes

    def can_delay(self, envelopes: Sequence[Envelope], delay: timedelta) -> bool:
        """Whether the broker itself can keep ``envelopes`` for ``delay``."""
        return False

    async def apublish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        """Do as :meth:`publish` does, and keep no thread waiting where the bus can."""
        return await sync_to_async(self.publish)(envelopes, delay)

    def send(self, envelopes: Sequence[Envelope], due: Due, using: str | None = None) -> list[Receipt]:
        admitted = self._admit(envelopes, due, using)
        if isinstance(admitted, list):
            return admitted
        outcomes = self.attempt(admitted.permit, envelopes, admitted.delay)
        receipts: list[Receipt] = []
        for verdict in self._settle(envelopes, due, outcomes, using=using):
            if isinstance(verdict, MessagingError):
                raise verdict
            receipts.append(verdict)
        return receipts

    async def asend(self, envelope: Envelope, due: Due, using: str | None = None) -> Receipt:
        if due is not None:
            return await super().asend(envelope, due, using)
        return await self._gathering.join(envelope, using)

    async def _asend_all(self, envelopes: Sequence[Envelope], using: str | None) -> Sequence[Receipt | MessagingError]:
        """Publish messages of several callers; the database is asked on the thread of their transaction."""
        admitted = await sync_to_async(self._admit)(envelopes, None, using)
        if isinstance(admitted, list):
            return admitted
        try:
            outcomes = await self.apublish(envelopes)
        except Exception as error:
            await sync_to_async(self.breaker.conclude)(admitted.permit, error)
            raise
        if self._writes_nothing(admitted, outcomes):
            return self._conclude(admitted.permit, envelopes, outcomes, using)
        return await sync_to_async(self._conclude)(admitted.permit, envelopes, outcomes, using)

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
        if permit.place is not None or outcomes.count(CONFIRMED) != len(outcomes):
            self._answered(permit, outcomes)
        return outcomes

    def _admit(self, envelopes: Sequence[Envelope], due: Due, using: str | None) -> _Admitted | list[Receipt]:
        """Return how messages may be published now, or the receipts of those that went to the outbox instead."""
        delay = (_from_now(due) or None) if due is not None else None
        waiting = outbox.must_store(self.alias, envelopes, using)
        if waiting or (delay is not None and not self.can_delay(envelopes, delay)):
            return outbox.store(self.alias, envelopes, due, using=waiting or using)
        try:
            admitted = _Admitted(self.breaker.admit(), delay)
        except BreakerOpenError as error:  # another process has found out already: nobody waits for the broker
            return outbox.store(self.alias, envelopes, due, error=str(error), using=using)
        outbox.before_broker()
        return admitted

    def _answered(self, permit: Permit, outcomes: Sequence[Outcome]) -> None:
        silent = next((outcome for outcome in outcomes if outcome.state in _SILENT), None)
        if silent is None:
            self.breaker.conclude(permit)
        else:
            self.breaker.failed(permit, silent.reason)

    def _conclude(
        self, permit: Permit, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome], using: str | None
    ) -> list[Receipt | MessagingError]:
        self._answered(permit, outcomes)
        return self._settle(envelopes, None, outcomes, using=using, callers=True)

    def _settle(
        self,
        envelopes: Sequence[Envelope],
        due: Due,
        outcomes: Sequence[Outcome],
        *,
        using: str | None,
        callers: bool = False,
    ) -> list[Receipt | MessagingError]:
        """Record what was confirmed, keep what was not.

        What can reach nobody has an error in the place of a receipt. With ``callers`` each message has its own.
        """
        if self._is_known and self._told is None and outcomes.count(CONFIRMED) == len(outcomes):
            if options().trail != "off":
                self._note(envelopes)
            return [Receipt(each.id, "published", self.alias) for each in envelopes]
        self._tell(next((outcome.reason for outcome in outcomes if outcome.state == "unsent"), ""))
        if not self._is_known and any(outcome.state not in _SILENT for outcome in outcomes):
            self._is_known = True
            lifecycle.move(self, "publishing", "live")
        pairs = list(zip(envelopes, outcomes, strict=True))
        if options().trail != "off":
            self._note([envelope for envelope, outcome in pairs if outcome.state == "confirmed"])
        kept = [(envelope, outcome) for envelope, outcome in pairs if outcome.state in _KEPT]
        if kept:
            rest = [envelope for envelope, _ in kept]
            outbox.store(self.alias, rest, due, error=kept[0][1].reason, using=using)
        return [self._verdict(envelope, outcome, 1 if callers else len(pairs)) for envelope, outcome in pairs]

    def _verdict(self, envelope: Envelope, outcome: Outcome, sent: int) -> Receipt | MessagingError:
        if outcome.state in ("returned", "impossible"):
            return self._hopeless(envelope, outcome, sent)
        return Receipt(envelope.id, "published" if outcome.state == "confirmed" else "accepted", self.alias)

    def _writes_nothing(self, admitted: _Admitted, outcomes: Sequence[Outcome]) -> bool:
        """Whether :meth:`_conclude` has nothing for the database."""
        quiet = admitted.permit.place is None and self._told is None and self._is_known and options().trail != "all"
        return quiet and not any(outcome.state in _KEPT for outcome in outcomes)

    def _tell(self, trouble: str) -> None:
        """Have health say that the broker takes nothing, and take that back."""
        now = clock.monotonic()
        with suppress(*STORE_ERRORS):
            if trouble and (self._told is None or now - self._told >= TELL_SECONDS):
                self._told, self._is_known = now, True
                lifecycle.move(self, "publishing", "waiting", trouble)
                health.report(f"messaging.publisher.{self.label}", "degraded", trouble)
            elif not trouble and self._told is not None:
                self._told, self._is_known = None, False
                health.retract([f"messaging.publisher.{self.label}"])

    def _note(self, confirmed: Sequence[Envelope]) -> None:
        """Write the events of messages that the broker has. A failure here must not make anybody send them again."""
        try:
            events.record(events.event(kind, self.alias, each) for each in confirmed for kind in ("sent", "published"))
        except DatabaseError as error:
            logger.warning("The events of %s were not written: %s", counted(len(confirmed), "published message"), error)

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
