"""Proves that nobody keeps a transaction open while it talks to a broker."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.db import connections

from koan_django.core import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

POINT = "messaging.broker.before_publish"


@dataclass(slots=True)
class BrokerIO:
    """``passed`` counts the publishes, ``open`` names the databases on which one found a transaction open."""

    passed: int = 0
    open: list[str] = field(default_factory=list)

    def __call__(self) -> None:
        """Raise when the thread that is about to publish has a transaction open."""
        self.passed += 1
        found = [each.alias for each in connections.all(initialized_only=True) if each.in_atomic_block]
        if found:
            self.open += found
            raise _error(found)


@contextmanager
def broker_io_outside_transactions() -> Iterator[BrokerIO]:
    """Fail, for the block, when sending or a relay of this process publishes while its thread has a transaction open.

    It is also raised at the end of the block, since a relay goes on after any error.
    """
    seen = BrokerIO()
    before = faults.arm(POINT, seen)
    try:
        yield seen
    finally:
        faults.arm(POINT, before)
    if seen.open:
        raise _error(seen.open)


def _error(aliases: list[str]) -> AssertionError:
    names = ", ".join(sorted(set(aliases)))
    return AssertionError(f"a message is published while a transaction is open on {names}")
