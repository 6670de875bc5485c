"""Circuit breakers that all processes share: what fails for one is spared the others.

A closed breaker costs nothing: its state is read at most once a second and process, and successes are not written.
"""

from __future__ import annotations

import logging
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from . import circuits, clock, health
from .circuits import BreakerPolicy, Circuit, Permit, Step
from .classification import is_transient
from .exceptions import TransientError
from .facts import Fact, source
from .redaction import redact_text
from .registry import Registry
from .stores import STORE_ERRORS, Change, breaker_store
from .telemetry import emit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

logger = logging.getLogger(__name__)

#: How long a process goes by what it has read.
POLL_SECONDS = 1.0
#: That of a closed breaker, which is the same for each call until the breaker opens.
_permit = lru_cache(maxsize=256)(Permit)


class BreakerOpenError(TransientError):
    """A breaker is open: the call was not made.

    ``retry_after`` says when one may be; it is ``None`` for a breaker that stays open until somebody resets it.
    """

    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was read of the store: the circuit, by the process's clock, and what the store's clock is ahead of that."""

    circuit: Circuit
    at: float = float("-inf")
    ahead: float = 0.0


class Breaker:
    """Guards calls to something that may be down. Threads share it; declare it with :func:`breaker`."""

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self.policy = policy
        self._seen = _Seen(Circuit())
        #: Whether the store was away when it was last asked: that is logged once.
        self._alone = False

    def __repr__(self) -> str:
        return f"<Breaker {self.name}: {self._seen.circuit.state}>"

    @property
    def state(self) -> circuits.State:
        """Return the state, not older than a second."""
        return self._look().state

    @property
    def seen(self) -> Circuit:
        """Return what was last read or written, however old it is."""
        return self._seen.circuit

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Make the call in this block, or use it as a decorator: ``@stripe.guard()``.

        Raises :class:`BreakerOpenError` instead of entering it while the breaker is open. An error of the block counts
        as a failure when it is transient: a permanent one is an answer.
        """
        permit = self.admit()
        try:
            yield
        except BaseException as error:
            self.conclude(permit, error)
            raise
        self.conclude(permit)

    @asynccontextmanager
    async def aguard(self) -> AsyncIterator[None]:
        """Do as :meth:`guard` does, with the store asked on a thread."""
        permit = self._pass() or await sync_to_async(self.admit)()
        try:
            yield
        except BaseException as error:
            await sync_to_async(self.conclude)(permit, error)
            raise
        if permit.place is not None:
            await sync_to_async(self.conclude)(permit)

    def admit(self) -> Permit:
        """Return a permit, to be handed to :meth:`conclude`; raises :class:`BreakerOpenError`."""
        seen = self._seen
        circuit = seen.circuit if clock.monotonic() - seen.at < POLL_SECONDS else self._look()
        if circuit.state == "closed":
            return _permit(circuit.generation)
        if not circuits.refuses(circuit, self.policy, self._now()):
            permit = self._probe()
            if permit is not None:
                return permit
        raise self._open()

    def refusal(self) -> BreakerOpenError | None:
        """Return what :meth:`admit` would raise now, without taking the place of a probe."""
        circuit = self._look()
        return self._open() if circuits.refuses(circuit, self.policy, self._now()) else None

    def conclude(self, permit: Permit, error: BaseException | None = None) -> None:
        """Say how the call ended. Only a failure, and the end of a probe, are written."""
        if error is None or (isinstance(error, Exception) and not is_transient(error)):
            if permit.place is not None:
                self._change(lambda circuit, now: circuits.succeeded(circuit, now, permit))
        elif isinstance(error, Exception):
            self.failed(permit, f"{type(error).__name__}: {error}")
        else:  # the process is told to end, which says nothing about the other side
            self.give_up(permit)

    def give_up(self, permit: Permit) -> None:
        """Say that nothing is known of how the call ended: the place of a probe is free for another."""
        if permit.place is not None:
            self._change(lambda circuit, now: circuits.given_up(circuit, permit))

    def failed(self, permit: Permit, reason: str) -> None:
        """Count a failure that was no exception."""
        text = redact_text(reason)
        self._change(lambda circuit, now: circuits.failed(circuit, self.policy, now, permit, text))

    def trip(self, reason: str) -> None:
        """Open it until somebody resets it."""
        self._seen = replace(self._seen, circuit=trip(self.name, reason))

    def reset(self) -> None:
        """Close it, and forget what was."""
        self._seen = replace(self._seen, circuit=reset(self.name))

    def _pass(self) -> Permit | None:
        """The permit of a breaker that is known to be closed."""
        seen = self._seen
        fresh = clock.monotonic() - seen.at < POLL_SECONDS
        return _permit(seen.circuit.generation) if fresh and seen.circuit.state == "closed" else None

    def _look(self) -> Circuit:
        seen, now = self._seen, clock.monotonic()
        if now - seen.at >= POLL_SECONDS:
            self._seen = replace(seen, at=now)  # so that the other threads do not read as well
            try:
                self._remember(*breaker_store().read(self.name), asked=now)
                self._alone = False
            except STORE_ERRORS as error:
                self._go_alone(error)
        return self._seen.circuit

    def _probe(self) -> Permit | None:
        """Take the place of a probe. A breaker that was closed meanwhile lets the call through."""
        change = self._change(lambda circuit, now: circuits.probed(circuit, self.policy, now))
        after = change.after
        if after.state == "closed":
            return _permit(after.generation)
        return Permit(after.generation, after.probes[-1]) if after != change.before else None

    def _change(self, step: Step) -> Change:
        """Take a step in the store, or without it when it is away: the process is protected by what it sees itself."""
        asked = clock.monotonic()
        try:
            change = breaker_store().change(self.name, step)
            self._alone = False
        except STORE_ERRORS as error:
            self._go_alone(error)
            before, now = self._seen.circuit, self._now()
            change = Change(before, step(before, now), now)
        self._remember(change.after, change.now, asked=asked)
        announce(self.name, change)
        return change

    def _remember(self, circuit: Circuit, now: float, *, asked: float) -> None:
        """Keep an answer, unless another thread got a newer one since this was ``asked`` for."""
        here, seen = clock.monotonic(), self._seen
        if asked >= seen.at or circuit.version >= seen.circuit.version:
            self._seen = _Seen(circuit, here, now - here)

    def _go_alone(self, error: Exception) -> None:
        if not self._alone:
            logger.warning("The breaker %s is not shared now: %s", self.name, redact_text(str(error)))
        self._alone = True

    def _now(self) -> float:
        return clock.monotonic() + self._seen.ahead

    def _open(self) -> BreakerOpenError:
        circuit = self._seen.circuit
        error = BreakerOpenError(
            f"the breaker {self.name!r} is open",
            why=circuit.reason,
            fix="Reset it in the admin when the cause is gone." if circuit.forced else "It tries again by itself.",
        )
        if not circuit.forced:
            error.retry_after = timedelta(seconds=max(circuit.until - self._now(), 0))
        return error


breakers: Registry[Breaker] = Registry("breaker")


def breaker(name: str, policy: BreakerPolicy | None = None, *, origin: str = "", **changes: Any) -> Breaker:
    """Declare a breaker: ``stripe = breaker("stripe", failures=3, window=timedelta(seconds=10))``.

    The name is shared by all processes. ``changes`` are fields of :class:`BreakerPolicy`.
    """
    policy = replace(policy or BreakerPolicy(), **changes)
    origin = origin or str(sys._getframe(1).f_globals.get("__name__"))
    return breakers.add(name, Breaker(name, policy), origin=origin)


def trip(name: str, reason: str) -> Circuit:
    """Open the breaker called ``name`` in all processes until somebody resets it."""
    return _forced(name, lambda circuit, now: circuits.tripped(circuit, now, redact_text(reason)))


def reset(name: str) -> Circuit:
    """Close the breaker called ``name`` in all processes."""
    return _forced(name, circuits.reset)


def announce(name: str, change: Change) -> None:
    """Tell the subscribers of telemetry about a change of state."""
    if change.before.state != change.after.state:
        emit(
            "core.breaker",
            breaker=name,
            before=change.before.state,
            state=change.after.state,
            openings=change.after.openings,
            reason=change.after.reason,
        )


@health.shared("breakers")
def findings() -> Iterator[health.Finding]:
    """Every breaker that is not closed."""
    for name, circuit in sorted(breaker_store().circuits().items()):
        if circuit.state != "closed":
            since = datetime.fromtimestamp(circuit.changed_at, UTC)
            text = f"{circuit.state} since {since:%H:%M:%S}: {circuit.reason}".rstrip(": ")
            yield health.Finding(f"breaker.{name}", "degraded", text)


@source("breakers")
def known() -> Iterator[Fact]:
    """What this process last saw of each breaker that it declares; it asks nobody."""
    for each in breakers:
        seen = each.seen
        yield Fact(f"breaker.{each.name}", seen.state, seen.reason)


def _forced(name: str, step: Step) -> Circuit:
    change = breaker_store().change(name, step)
    announce(name, change)
    return change.after
