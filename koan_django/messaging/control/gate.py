"""Decides which handlers get messages: none that somebody has paused, none whose breaker is open.

The consuming thread owns it and asks the database at most a few times a second, never for a message.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from django.db import Error

from koan_django.core import clock
from koan_django.core.breaker import BreakerOpenError
from koan_django.core.circuits import Permit
from koan_django.core.telemetry import emit
from koan_django.messaging import handlers
from koan_django.messaging.buses.base import Batch
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.handling.verdicts import POSTPONE, Verdict

from . import pausing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from koan_django.messaging.handlers import Handler

logger = logging.getLogger(__name__)

#: How often it is asked; the policy version behind it is read once a second.
PERIOD_SECONDS = 0.25
#: The reason of a verdict that puts a delivery off because its handler is held.
HELD = "held"


@dataclass(frozen=True, slots=True)
class Admission:
    """What of a batch may be handled. ``permits`` are those of the breakers that were asked, by handler."""

    batch: Batch
    held: tuple[tuple[Delivery, Verdict], ...] = ()
    permits: Mapping[str, Permit] = field(default_factory=dict)


class Gate:
    """What is held of the groups of ``bus``. ``hold`` is how long a delivery of a held handler is put off."""

    def __init__(self, bus: str, hold: timedelta) -> None:
        self._bus = bus
        self._hold = hold
        self._groups = handlers.on_bus(bus)
        self._guarded = {group for group, members in self._groups.items() if any(each.breaker for each in members)}
        self._due = float("-inf")
        self._failing = False
        #: Why each held handler is held.
        self.held: dict[str, str] = {}
        self._probing: set[str] = set()

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return clock.monotonic() >= self._due

    @property
    def is_guarded(self) -> bool:
        """Whether a handler here has a breaker, so that admitting a batch may read its state."""
        return bool(self._guarded)

    def look(self) -> None:
        """Read who is held. While the database does not answer, it stays as it was."""
        self._due = clock.monotonic() + PERIOD_SECONDS
        try:
            held = self._paused()
            self._failing = False
        except Error as error:
            if not self._failing:
                logger.warning("It could not be read which handlers are paused: %s", error)
            self._failing = True
            return
        self._probing = set()
        for member in self._members():
            if member.name not in held and member.breaker is not None:
                refusal = member.breaker.refusal()
                if refusal is not None:
                    held[member.name] = f"its breaker is open: {refusal.why or 'no reason is known'}"
                elif member.breaker.state != "closed":
                    self._probing.add(member.name)
        self._tell(held)
        self.held = held

    def is_shut(self, group: str) -> bool:
        """Whether every handler of ``group`` is held: nothing of it is fetched."""
        return bool(self.held) and all(member.name in self.held for member in self._groups.get(group, ()))

    def is_probing(self, group: str) -> bool:
        """Whether whoever works in ``group`` only tries, so that one message at a time is enough."""
        working = [member.name for member in self._groups.get(group, ()) if member.name not in self.held]
        return bool(working) and self._probing.issuperset(working)

    def aliases(self, group: str) -> frozenset[str]:
        """The aliases of ``group`` that nobody but a held handler receives, for buses that can leave them where they
        are. What a held pattern receives is not among them.
        """
        if not self.held:
            return frozenset()
        members = (member for member in self._groups.get(group, ()) if member.name in self.held)
        return frozenset(member.binding for member in members if not {"*", "#"} & set(member.binding))

    def admit(self, batch: Batch) -> Admission:
        """Divide ``batch`` into what may be handled and what is held."""
        if not self.held and batch.group not in self._guarded:
            return Admission(batch)
        held: list[tuple[Delivery, Verdict]] = []
        free: list[Delivery] = []
        permits: dict[str, Permit] = {}
        refused: dict[str, timedelta] = {}
        for delivery in batch.deliveries:
            found = handlers.find(batch.bus, batch.group, delivery.envelope.alias)
            wait = None if found is None else self._wait(found, permits, refused)
            if found is None or wait is None:
                free.append(delivery)
            else:
                held.append((delivery, Verdict("postpone", found.name, reason=HELD, wait=wait)))
        if refused or any(permit.place is not None for permit in permits.values()):
            self._due = float("-inf")
        return Admission(replace(batch, deliveries=tuple(free)), tuple(held), permits)

    def conclude(self, permits: Mapping[str, Permit], verdicts: Sequence[Verdict] = ()) -> None:
        """Tell the breakers how it went; without verdicts nothing is known."""
        for name, permit in permits.items():
            self._conclude(name, permit, [each for each in verdicts if each.handler == name])

    def _paused(self) -> dict[str, str]:
        paused = pausing.paused()
        return {member.name: paused[member.name] for member in self._members() if member.name in paused}

    def _members(self) -> list[Handler]:
        return [member for members in self._groups.values() for member in members]

    def _wait(self, found: Handler, permits: dict[str, Permit], refused: dict[str, timedelta]) -> timedelta | None:
        """How long a delivery of ``found`` is put off, or ``None`` where it may be handled."""
        if found.name in self.held:
            return self._hold
        if found.breaker is None:
            return None
        if found.name in permits:
            return None if permits[found.name].place is None else POSTPONE  # a probe is one message
        if found.name not in refused:
            try:
                permits[found.name] = found.breaker.admit()
            except BreakerOpenError as error:
                refused[found.name] = self._hold if error.retry_after is None else min(error.retry_after, self._hold)
            else:
                return None
        return max(refused[found.name], POSTPONE)

    def _conclude(self, name: str, permit: Permit, verdicts: Sequence[Verdict]) -> None:
        member = next((each for each in self._members() if each.name == name), None)
        if member is None or member.breaker is None:
            return
        failures = [each for each in verdicts if each.outcome == "retry" or each.reason == "exhausted"]
        for each in failures[: member.breaker.policy.failures]:  # more of them say nothing more
            member.breaker.failed(permit, f"{each.error_type.rpartition('.')[2]}: {each.error}")
        if not failures:
            answered = any(each.outcome == "handled" or each.reason == "permanent" for each in verdicts)
            member.breaker.conclude(permit) if answered else member.breaker.give_up(permit)
        if failures or permit.place is not None:
            self._due = float("-inf")

    def _tell(self, held: Mapping[str, str]) -> None:
        for name in held.keys() - self.held.keys():
            logger.warning("The handler %s gets nothing more: %s", name, held[name])
            emit("messaging.handler_held", bus=self._bus, handler=name, reason=held[name])
        for name in self.held.keys() - held.keys():
            logger.info("The handler %s gets messages again", name)
            emit("messaging.handler_released", bus=self._bus, handler=name)
