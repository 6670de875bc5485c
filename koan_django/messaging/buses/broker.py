"""What buses on a broker have in common: a confirmed publish, with the outbox behind it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from koan_django.messaging import events, outbox
from koan_django.messaging.envelope import Receipt
from koan_django.messaging.exceptions import UnroutableError

from .base import Bus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from koan_django.messaging.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a publish.

    ``confirmed``: the broker has it. ``returned``: it routes nowhere. ``refused``: the broker said no (a full queue).
    ``unknown``: it was written and not answered; published again it keeps its id. ``unsent``: it was never written.
    """

    state: Literal["confirmed", "returned", "refused", "unknown", "unsent"]
    reason: str = ""


class BrokerBus(Bus):
    """Publishes at once outside a transaction; what cannot be published now waits in the outbox."""

    @abstractmethod
    def publish(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Publish and wait for the broker's answers, in order. Does not raise for a broker that is away."""

    def send(self, envelopes: Sequence[Envelope], due: datetime | None) -> list[Receipt]:
        if due is not None or outbox.must_store(self.alias, envelopes):
            return outbox.store(self.alias, envelopes, due)
        return self._settle(envelopes, self.publish(envelopes))

    def cancel(self, message_id: str) -> bool:
        return outbox.cancel(self.alias, message_id)

    def _settle(self, envelopes: Sequence[Envelope], outcomes: list[Outcome]) -> list[Receipt]:
        """Record what was confirmed, keep what was not; then report what nobody receives."""
        pairs = list(zip(envelopes, outcomes, strict=True))
        confirmed = [envelope for envelope, outcome in pairs if outcome.state == "confirmed"]
        events.record(
            events.event(kind, self.alias, envelope) for envelope in confirmed for kind in ("sent", "published")
        )
        receipts = {envelope.id: Receipt(envelope.id, "published", self.alias) for envelope in confirmed}
        kept = [(e, o) for e, o in pairs if o.state in ("refused", "unknown", "unsent")]
        if kept:
            stored = outbox.store(self.alias, [e for e, _ in kept], None, error=kept[0][1].reason)
            receipts.update({receipt.id: receipt for receipt in stored})
        returned = [envelope for envelope, outcome in pairs if outcome.state == "returned"]
        if returned:
            raise UnroutableError(
                f"{returned[0].alias} reaches nobody on the bus {self.alias!r}",
                why=f"the broker returned {len(returned)} of {len(pairs)} messages: no queue is bound to the key",
                fix="Start a worker whose handlers receive it: it declares the queues.",
            )
        return [receipts[envelope.id] for envelope in envelopes]
