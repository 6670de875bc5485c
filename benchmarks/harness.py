"""Measures a case: ours and a peer take turns on the same work, so that both meet the same noise."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one side: what was measured, and the seconds of processor time that it took."""

    value: float
    cpu: float


#: Does the work once or many times over and returns what was measured, in the unit of its case. A side whose work is
#: done by other processes returns a :class:`Turn` with their time; else it is the time of this one.
Side = Callable[[], float | Turn]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison.

    ``name`` is what is done, with whom it is compared, and which variant, joined by slashes. ``goal`` is the least
    ratio that is good enough: ours over the peer's for rates (``unit`` ends in ``/s``), the peer's over ours otherwise.
    ``sides`` prepares both and yields ours and the peer's. ``note`` says how the work was made the same. A goal of
    0 is none: the ratio is only told.
    """

    name: str
    peer_name: str
    unit: str
    goal: float
    sides: Callable[[], AbstractContextManager[tuple[Side, Side]]]
    note: str
    rounds: int = 7
    #: Whether a turn is the same amount of work on both sides, so that its processor time can be compared as well.
    with_cpu: bool = True
    #: Whether one turn of each goes first and does not count. A side that starts a process each time is cold each time.
    warm: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """A measured case, with every turn."""

    case: Case
    ours: list[Turn]
    peer: list[Turn]

    @property
    def ratio(self) -> float:
        """How many times better ours is, by the medians."""
        ours, peer = middle(self.ours), middle(self.peer)
        return ours / peer if self.case.unit.endswith("/s") else peer / ours

    @property
    def cpu_ratio(self) -> float | None:
        """The peer's processor time over ours, which other processes disturb less. ``None`` where it says nothing."""
        ours, peer = median(turn.cpu for turn in self.ours), median(turn.cpu for turn in self.peer)
        return peer / ours if self.case.with_cpu and ours else None

    @property
    def reached(self) -> bool:
        """Whether the goal was reached."""
        return self.ratio >= self.case.goal


def measure(case: Case, rounds: int | None = None) -> Outcome:
    """Run one turn of each for warmth, if the case wants it, then ``rounds`` turns of both, one after the other."""
    with case.sides() as (ours, peer):
        for side in (ours, peer) if case.warm else ():
            side()
        turns = [(_turn(ours), _turn(peer)) for _ in range(rounds or case.rounds)]
    return Outcome(case, [one for one, _ in turns], [other for _, other in turns])


def middle(turns: list[Turn]) -> float:
    """Return the median of what was measured."""
    return median(turn.value for turn in turns)


def seconds_each(work: Callable[[], object], times: int) -> float:
    """Do ``work`` so many times and return the seconds that one takes."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def _turn(side: Side) -> Turn:
    gc.collect()
    before = _cpu()
    found = side()
    return found if isinstance(found, Turn) else Turn(found, _cpu() - before)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
