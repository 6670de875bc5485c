"""What a store must do.

A store that cannot be reached raises one of ``koan_django.core.stores.STORE_ERRORS``, never anything else and never
nothing. Times are those of the store, not of its callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from koan_django.core.exceptions import LeaseLostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from koan_django.inbox.scopes import Scope


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Of a store that has none."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do one piece of work. ``token`` is higher than every earlier one of the same work."""

    fingerprint: str
    token: int
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class Begun:
    """The answer to "may I": ``acquired`` comes with a lease, ``processed`` is a duplicate, ``busy`` must wait."""

    status: Literal["acquired", "processed", "busy"]
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a piece of work; ``None`` where a store does not keep that.

    ``token`` is the last that was given for it, and ``held`` whether its lease holds.
    """

    status: Literal["unknown", "processing", "processed"]
    token: int | None = None
    held: bool = False
    attempts: int | None = None
    duplicates: int | None = None
    first_seen_at: datetime | None = None
    processed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a store remembers; ``None`` where it cannot count that. Duplicates are by handler or source."""

    processed: int | None = None
    processing: int | None = None
    duplicates: Mapping[str, int] = field(default_factory=dict)


class Store(Protocol):
    """Remembers what was handled. Its class is made with its ``OPTIONS``, read as the dataclass ``schema``.

    The verbs take many at once, of different work: what a store can do in one step costs one.
    """

    schema: ClassVar[type]

    def objections(self) -> Iterable[str]:
        """Yield what is wrong with the options, for a system check: no socket is opened."""

    def probe(self) -> None:
        """Raise one of ``STORE_ERRORS`` unless the store answers."""

    def commits_with(self, using: str) -> bool:
        """Whether it is a :class:`CommittingStore` in a transaction of the database ``using``."""

    def look(self, scope: Scope) -> Seen:
        """Say what is known of a piece of work, and change nothing."""

    def begin(self, scopes: Sequence[Scope], ttl: timedelta) -> list[Begun]:
        """Take a lease on each that is new or was given up; count as a duplicate each that is processed."""

    def renew(self, leases: Sequence[Lease]) -> None:
        """Hold on for another ``ttl`` from now; raises ``LeaseLostError`` when one of them is lost."""

    def finish(self, leases: Sequence[Lease]) -> None:
        """Mark as processed what nobody else has taken over, though its lease has ended.

        Raises ``LeaseLostError`` when one of them was taken over; the others are marked.
        """

    def release(self, leases: Sequence[Lease]) -> None:
        """Give unfinished work back, to be begun again at once; what was taken over is left alone."""

    def count_duplicates(self, scopes: Sequence[Scope]) -> None:
        """Note that these came once more."""

    def figures(self) -> Figures:
        """Count what is remembered."""


class CommittingStore(Store, Protocol):
    """A store whose claims commit together with the work."""

    def claim(self, scopes: Sequence[Scope]) -> list[bool]:
        """Claim work inside the caller's transaction; return for each whether it is new.

        A concurrent claim of the same work waits for the first one's transaction: if that commits it is a duplicate,
        if it rolls back the work is new.
        """


def overtaken() -> LeaseLostError:
    """Return the error of a mark that comes too late."""
    return LeaseLostError(
        "the handled message was taken over by another worker",
        why="its inbox lease was not renewed in time",
        fix="Nothing: the other worker handles it.",
    )
