"""How far each bus has come in this process, and since when.

It is *registered* by the settings, *elected* where nobody has named a broker, *connected*, and *live* once its queues
are declared and consumed, or the broker has answered a publish; or it is *waiting*, for a reason. Consuming and
publishing come on apart from each other. The stages of a process are facts, so every other process can show them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from django.utils import timezone

from koan_django.core import conf, effective, facts, reporter
from koan_django.core.facts import Alternative, Fact
from koan_django.core.redaction import redact_text

from .conf import options
from .signals import bus_state_changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .buses.base import Bus

Deed: TypeAlias = Literal["consuming", "publishing"]
State: TypeAlias = Literal["registered", "elected", "connected", "live", "waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How far a bus has come. ``label`` tells the brokers of one ``bus`` apart; ``trouble`` is what went wrong last."""

    deed: Deed
    bus: str
    label: str
    place: str
    state: State
    since: datetime
    reason: str = ""
    trouble: str = ""

    @property
    def fact(self) -> Fact:
        """The stage as other processes see it."""
        last = "" if self.state == "waiting" or not self.trouble else f"; it went wrong last {self.trouble}"
        reason = f": {self.reason}" if self.reason else ""
        return Fact(f"messaging.{self.deed}.{self.label}", self.state, f"since {_at(self.since)}{reason}{last}")


#: Of this process, by what it does on which bus.
_stages: dict[tuple[Deed, str], Stage] = {}


def move(bus: Bus, deed: Deed, state: State, reason: str = "") -> None:
    """Note that ``bus`` has come to ``state``, and tell whoever wants to know; the caller may use the database.

    Nothing happens while it stays where it is, for the same reason; registered is only what was not there before.
    """
    before, reason = _stages.get((deed, bus.label)), redact_text(reason)
    if before is not None and (state == "registered" or (before.state, before.reason) == (state, reason)):
        return
    now = timezone.now()
    stage = _stages[deed, bus.label] = Stage(
        deed=deed,
        bus=bus.alias,
        label=bus.label,
        place=bus.place,
        state=state,
        since=before.since if before is not None and before.state == state else now,
        reason=reason,
        trouble=f"{_at(now)}: {reason}" if state == "waiting" else before.trouble if before is not None else "",
    )
    reporter.hurry()
    bus_state_changed.send_robust(sender=type(bus), stage=stage)


def forget(buses: Iterable[Bus]) -> None:
    """Drop the stages of buses that this process consumes no longer."""
    for bus in buses:
        _stages.pop(("consuming", bus.label), None)


@conf.on_reset
def reset() -> None:
    """Forget everything: the settings changed."""
    _stages.clear()


def of_all() -> dict[str, list[tuple[str, Fact]]]:
    """Return the stages of every process that lives by the alias of the bus, each with the name of the process."""
    found: dict[str, list[tuple[str, Fact]]] = defaultdict(list)
    for process, told in facts.of_all().items():
        for fact in told:
            app, deed, alias, *_ = (*fact.subject.split("."), "", "")
            if (app, deed) in (("messaging", "consuming"), ("messaging", "publishing")):
                found[alias].append((process, fact))
    return found


@facts.source("messaging.buses")
def choices() -> Iterator[Fact]:
    """Where each bus is and why, and how far it has come here."""
    from .buses import registry
    from .buses.elected import ElectedBus

    for bus in registry.all_buses():
        subject = f"messaging.bus.{bus.alias}"
        if isinstance(bus, ElectedBus) and bus.candidates:
            brokers = tuple(Alternative(each.name, each.origin) for each in bus.candidates.values())
            yield Fact(subject, "as elected", "no bus has a URL: this process follows what a worker elects", brokers)
        elif not isinstance(bus, ElectedBus):
            yield Fact(subject, bus.place, _origin(bus.alias))
        else:
            yield Fact(subject, "database://", "no bus has a URL, and nothing suggests a broker")
    for stage in list(_stages.values()):
        yield stage.fact


def _origin(alias: str) -> str:
    if options().buses[alias].url is None:
        return "it has no URL"
    return f"its URL, from {effective.origin('MESSAGING', 'BUSES', alias, 'URL')}"


def _at(when: datetime) -> str:
    return f"{when.astimezone(timezone.get_default_timezone()):%Y-%m-%d %H:%M:%S %Z}"
