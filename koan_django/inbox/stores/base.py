"""What a store must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from koan_django.core.leases import Held

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from koan_django.inbox.scopes import Scope


@dataclass(frozen=True, slots=True)
class Begun:
    """The answer to "may I": ``acquired`` comes with a lease, ``processed`` is a duplicate, ``busy`` must wait."""

    status: Literal["acquired", "processed", "busy"]
    lease: Held | None = None


class Store(Protocol):
    """Remembers what was handled."""

    def claim(self, scopes: Sequence[Scope]) -> list[bool]:
        """Claim work inside the caller's transaction; return for each whether it is new.

        A concurrent claim of the same work waits for the first one's transaction: if that commits it is a duplicate,
        if it rolls back the work is new.
        """

    def begin(self, scope: Scope, ttl: timedelta) -> Begun:
        """Take long work under a lease, outside a transaction."""

    def finish(self, lease: Held) -> None:
        """Mark work as done, if the lease still holds; raises ``LeaseLostError``."""

    def abandon(self, lease: Held) -> None:
        """Give unfinished work back, to be begun again at once."""
