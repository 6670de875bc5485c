"""What a store must do. Each verb is one atomic step, and all times are those of the store, not of its callers.

A store that cannot be reached raises one of :data:`STORE_ERRORS`, never anything else and never nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, Protocol

from django.db import DatabaseError, InterfaceError

from koan_django.core.circuits import Circuit, Step
from koan_django.core.exceptions import StoreUnavailableError

Status = Literal["healthy", "degraded", "unhealthy", "unknown"]

#: What a store raises when it cannot be reached. All are transient.
STORE_ERRORS = (DatabaseError, InterfaceError, StoreUnavailableError)


class Store(Protocol):
    """What every store has. Its class is made with its ``OPTIONS``, read as the dataclass ``schema``."""

    schema: ClassVar[type]

    def objections(self) -> Iterable[str]:
        """Yield what is wrong with the options, for a system check: no socket is opened."""

    def probe(self) -> None:
        """Raise one of :data:`STORE_ERRORS` unless the store answers."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What one process says about one thing."""

    name: str
    reporter: str
    status: Status
    critical: bool = False
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownFact:
    """A fact as the store has it. ``since`` is when its status began, ``expired`` whether it counts no more."""

    fact: Fact
    since: datetime
    reported_at: datetime
    expired: bool


class HealthStore(Store, Protocol):
    """Keeps the facts of all processes, one for each name and reporter."""

    def record(self, fact: Fact, ttl: timedelta) -> None:
        """Write ``fact`` over what its reporter said before; ``since`` stays while the status does."""

    def facts(self, remembered: timedelta) -> list[KnownFact]:
        """Return all facts, by name and reporter; drop those that expired longer than ``remembered`` ago."""

    def retract(self, reporter: str, names: Iterable[str] | None) -> None:
        """Drop the facts of ``reporter``, all of them where ``names`` is ``None``."""


@dataclass(frozen=True, slots=True)
class KnownLease:
    """A named lease as the store has it; ``until`` is ``None`` when nobody holds it."""

    name: str
    owner: str
    token: int
    until: datetime | None


class LeaseStore(Store, Protocol):
    """Keeps named leases. A token is higher than every earlier one of its name."""

    def acquire(self, name: str, owner: str, ttl: timedelta) -> int | None:
        """Take ``name`` for ``ttl`` and return the token, or ``None`` when somebody else holds it.

        ``owner`` is another one with each take.
        """

    def renew(self, name: str, token: int, ttl: timedelta) -> bool:
        """Hold on for another ``ttl`` from now; ``False`` when the lease is lost."""

    def holds(self, name: str, token: int) -> bool:
        """Whether ``name`` is held under ``token``, still."""

    def release(self, name: str, token: int) -> bool:
        """Give ``name`` back; ``False`` when it was lost already."""

    def leases(self) -> list[KnownLease]:
        """Return the leases that the store knows of, by name."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a circuit was and is. ``now`` is the time of the store in seconds."""

    before: Circuit
    after: Circuit
    now: float


class BreakerStore(Store, Protocol):
    """Keeps the circuits of breakers. One that was never written is a new :class:`Circuit`."""

    def read(self, name: str) -> tuple[Circuit, float]:
        """Return the circuit, and the time of the store in seconds."""

    def change(self, name: str, step: Step) -> Change:
        """Take ``step`` and write what it returns; take it again when another process wrote meanwhile."""

    def circuits(self) -> dict[str, Circuit]:
        """Return every circuit that was ever written, by name."""


#: How often a step is taken anew. Every time somebody else took one, so what it was to say is mostly said.
TRIES = 20


def compare_and_set(read: Callable[[], tuple[Circuit, float]], write: Callable[[Circuit], bool], step: Step) -> Change:
    """Take ``step`` on what ``read`` returns. ``write`` says whether nobody has written that version before."""
    for _ in range(TRIES):
        before, now = read()
        after = step(before, now)
        if after == before:
            return Change(before, before, now)
        after = replace(after, version=before.version + 1)
        if write(after):
            return Change(before, after, now)
    raise StoreUnavailableError(
        "a circuit breaker could not be written", why=f"{TRIES} times somebody else was faster", fix="Nothing."
    )
