"""What a circuit breaker does, as functions of its state and the time: no clock, no store.

Closed, calls go through and failures are counted. Too many within the window open it: calls are refused for a while,
longer with each opening in a row. Then it is half-open: a few calls of the whole cluster, the *probes*, may try. The
first probe that succeeds closes it, one that fails opens it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from .retry import RetryPolicy

State = Literal["closed", "open", "half-open"]

REASON_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    ``failures`` within ``window`` open it for ``open_for``, which grows by ``factor`` with each opening in a row, up to
    ``max_open``. ``probes`` is how many calls of all processes may try at once when it is half-open; the place of one
    that never says how it ended is free again after ``probe_for``.
    """

    failures: int = 5
    window: timedelta = timedelta(seconds=30)
    open_for: timedelta = timedelta(seconds=5)
    factor: float = 2.0
    max_open: timedelta = timedelta(minutes=5)
    probes: int = 1
    probe_for: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if self.failures < 1 or self.probes < 1:
            raise ValueError("failures and probes must be at least 1")
        if min(self.window, self.open_for, self.probe_for) <= timedelta(0) or self.max_open < self.open_for:
            raise ValueError("window, open_for and probe_for must be more than 0, and max_open not less than open_for")
        if self.factor < 1:
            raise ValueError("factor must be at least 1")

    def pause(self, openings: int) -> float:
        """Return for how many seconds the opening number ``openings`` in a row lasts."""
        policy = RetryPolicy(first_delay=self.open_for, factor=self.factor, max_delay=self.max_open)
        return policy.delay(openings + 1).total_seconds()


@dataclass(frozen=True, slots=True)
class Circuit:
    """The state of one breaker; times are seconds of the store's clock.

    ``generation`` rises with each change of ``state``: what a call says that began before it counts no more.
    ``version`` rises with each write, by which the store knows a late one.
    """

    state: State = "closed"
    failures: tuple[float, ...] = ()
    openings: int = 0
    until: float = 0.0
    probes: tuple[float, ...] = ()
    forced: bool = False
    reason: str = ""
    changed_at: float = 0.0
    generation: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Permit:
    """Says that a call may be made. ``place`` is that of a probe: when it would become free by itself."""

    generation: int
    place: float | None = None


#: One step of a circuit at a time of the store's clock.
Step = Callable[[Circuit, float], Circuit]


def refuses(circuit: Circuit, policy: BreakerPolicy, now: float) -> bool:
    """Whether no call may be made now, not even a probe."""
    if circuit.state == "half-open":
        return len(_taken(circuit, policy, now)) >= policy.probes
    # A pause longer than any can be was begun by a clock that has been set back since.
    paused = now < circuit.until <= now + policy.max_open.total_seconds()
    return circuit.state == "open" and (circuit.forced or paused)


def probed(circuit: Circuit, policy: BreakerPolicy, now: float) -> Circuit:
    """Take the place of a probe; unchanged where none is free, or none is needed."""
    if circuit.state == "closed" or refuses(circuit, policy, now):
        return circuit
    probes = (*_taken(circuit, policy, now), now + policy.probe_for.total_seconds())
    if circuit.state == "half-open":
        return replace(circuit, probes=probes)
    return replace(_moved(circuit, "half-open", now), probes=probes)


def failed(circuit: Circuit, policy: BreakerPolicy, now: float, permit: Permit, reason: str) -> Circuit:
    """Count a failure; open the circuit when it is one too many, or that of a probe."""
    if permit.generation != circuit.generation or circuit.state == "open":
        return circuit
    recent = (*(at for at in circuit.failures if 0 <= now - at < policy.window.total_seconds()), now)
    if circuit.state == "closed" and len(recent) < policy.failures:
        return replace(circuit, failures=recent)
    openings = circuit.openings + 1
    opened = replace(_moved(circuit, "open", now), openings=openings, until=now + policy.pause(openings))
    return replace(opened, reason=reason[:REASON_LENGTH])


def succeeded(circuit: Circuit, now: float, permit: Permit) -> Circuit:
    """Close the circuit if it was a probe that succeeded."""
    if permit.place is None or permit.generation != circuit.generation or circuit.state != "half-open":
        return circuit
    return replace(_moved(circuit, "closed", now), openings=0, until=0.0, reason="")


def given_up(circuit: Circuit, permit: Permit) -> Circuit:
    """Free the place of a probe that ended without telling anything."""
    if permit.place is None or permit.generation != circuit.generation or permit.place not in circuit.probes:
        return circuit
    at = circuit.probes.index(permit.place)
    return replace(circuit, probes=circuit.probes[:at] + circuit.probes[at + 1 :])


def tripped(circuit: Circuit, now: float, reason: str) -> Circuit:
    """Open the circuit until somebody resets it."""
    opened = circuit if circuit.state == "open" else _moved(circuit, "open", now)
    return replace(opened, forced=True, until=0.0, reason=reason[:REASON_LENGTH])


def reset(circuit: Circuit, now: float) -> Circuit:
    """Close the circuit and forget its past."""
    if circuit.state == "closed" and not circuit.failures:
        return circuit
    moved = circuit if circuit.state == "closed" else _moved(circuit, "closed", now)
    return replace(moved, failures=(), openings=0, until=0.0, reason="")


def _moved(circuit: Circuit, state: State, now: float) -> Circuit:
    return replace(
        circuit,
        state=state,
        failures=(),
        probes=(),
        forced=False,
        changed_at=now,
        generation=circuit.generation + 1,
    )


def _taken(circuit: Circuit, policy: BreakerPolicy, now: float) -> tuple[float, ...]:
    """The places of probes under way; one that would last longer than any can is of a clock that was set back."""
    last = now + policy.probe_for.total_seconds()
    return tuple(place for place in circuit.probes if now < place <= last)
