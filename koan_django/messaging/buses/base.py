"""What a bus must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TypeAlias

from asgiref.sync import sync_to_async

from koan_django.core.texts import counted
from koan_django.messaging.conf import place_of
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.handling.limits import NO_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope, Receipt
    from koan_django.messaging.handling.consumer import Consumer
    from koan_django.messaging.handling.verdicts import Verdict


#: From when on a message may be handled: at once, at a time, or so much later by the clock of whoever keeps it.
Due: TypeAlias = datetime | timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What holds on a bus.

    ``transactional``: sending is part of the caller's transaction, without an outbox. ``durable``: accepted messages
    survive a crash. ``shared``: other processes receive them. ``ordered``: messages of one partition key are handled
    in order. ``priorities``: urgent messages go first; elsewhere a priority has no effect. ``copies``: each group
    gets its own. ``patterns``: a group may receive by pattern. ``isolated``: tenants may have queues of their own.
    """

    transactional: bool
    durable: bool
    shared: bool
    ordered: bool
    priorities: bool = False
    copies: bool = True
    patterns: bool = True
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits for a group, and how many consume it; ``-1`` where the bus cannot tell. ``note`` is a trouble.

    ``sections`` says how much of it waits where tenants have queues of their own.
    """

    group: str
    waiting: int
    in_progress: int
    consumers: int = -1
    note: str = ""
    sections: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ((self.waiting, "waiting"), (self.in_progress, "in progress"))
        counts = [f"{count} {what}" for count, what in told if count >= 0]
        counts += [counted(self.consumers, "consumer")] if self.consumers >= 0 else []
        apart = [f"{count} in {section}" for section, count in self.sections.items() if count]
        return ", ".join([*counts, *apart, *filter(None, [self.note])])


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries of one group that go to the pool together."""

    bus: str
    group: str
    deliveries: tuple[Delivery, ...]
    limits: Limits = NO_LIMITS


class Pool(Protocol):
    """Where handlers run: Celery's pool, or threads in a test."""

    @property
    def size(self) -> int:
        """How many batches can run at once."""

    def submit(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> bool:
        """Have ``batch`` handled and call ``done`` from any thread, with ``None`` when the child died.

        Returns ``False``, and calls nothing, when the pool takes no more work.
        """


class Bus(ABC):
    """One configured bus."""

    capabilities: Capabilities

    def __init__(self, alias: str, options: BusOptions) -> None:
        self.alias = alias
        self.options = options
        #: What tells it from the other buses of its alias, in the names of threads and health facts.
        self.label = alias
        #: Whether others of its alias do its work while it is away.
        self.redundant = False

    @property
    def place(self) -> str:
        """Where it is, without the user and the password."""
        return f"{self.options.scheme}://{place_of(self.options.url or '')}"

    @abstractmethod
    def send(self, envelopes: Sequence[Envelope], due: Due, using: str | None = None) -> list[Receipt]:
        """Accept messages, addressed to all their groups or to ``envelope.group``; not before ``due``.

        They are part of the transaction of the database ``using``, by default that of messaging's tables, if one is
        open. Raises :class:`~koan_django.messaging.exceptions.UnroutableError` when no group receives one of them.
        """

    async def asend(self, envelope: Envelope, due: Due, using: str | None = None) -> Receipt:
        """Accept one message without keeping the event loop waiting; raises what :meth:`send` raises."""
        return (await sync_to_async(self.send)([envelope], due, using))[0]

    @abstractmethod
    def consumer(self, pool: Pool) -> Consumer:
        """Return a consumer thread that hands deliveries to ``pool``."""

    def consumers(self, pool: Pool) -> list[Consumer]:
        """Return all consumer threads that a worker needs."""
        return [self.consumer(pool)]

    def members(self) -> Sequence[Bus]:
        """Return what it consists of and can be away by itself: this bus, or each of its brokers."""
        return [self]

    @abstractmethod
    def cancel(self, message_id: str) -> bool:
        """Take back a message that waits and that nobody has begun to handle or publish; return whether it did."""

    def complete(self, deliveries: Sequence[Delivery]) -> None:  # noqa: B027  # most have nothing to do
        """Settle ``deliveries`` inside the handler's transaction, where the bus can.

        Raises :class:`~koan_django.core.exceptions.LeaseLostError` when another worker has them now.
        """

    def depths(self) -> list[Depth]:
        """Return what waits for each group."""
        return []

    def probe(self) -> None:  # noqa: B027  # the database has a probe of its own
        """Raise unless the bus answers and lets this process in; asked by elections and by ``koan_doctor`` only."""

    def doubts(self) -> Iterable[str]:
        """Yield why its server may not keep what the bus promises; asked by ``koan_doctor`` only, after a probe."""
        return ()

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Let go of connections and threads."""
