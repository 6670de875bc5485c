"""What handlers and settings ask of a bus, against what it can do: found out at start, not by a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import handlers
from .buses import registry
from .conf import options
from .exceptions import CapabilityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .handlers import Handler


@dataclass(frozen=True, slots=True)
class Demand:
    """``who`` asks a bus for a capability; ``fix`` says what else to do."""

    who: str
    bus: str
    capability: str
    fix: str

    def __str__(self) -> str:
        return f"{self.who} asks the bus {self.bus!r} for {self.capability!r}, which it does not offer"


def unmet() -> list[Demand]:
    """Return the demands that a configured bus does not meet. A bus that nobody has configured is no matter of ours."""
    buses = options().buses
    return [
        demand
        for demand in (*_of_settings(), *_of_handlers())
        if demand.bus in buses and not getattr(registry.get(demand.bus).capabilities, demand.capability)
    ]


def enforce() -> None:
    """Raise :class:`CapabilityError` when a demand is not met."""
    lacking = unmet()
    if lacking:
        raise CapabilityError("; ".join(map(str, lacking)), fix=" ".join(dict.fromkeys(each.fix for each in lacking)))


def _of_settings() -> Iterator[Demand]:
    for alias, bus in options().buses.items():
        for capability in bus.require:
            who = f"KOAN['MESSAGING']['BUSES'][{alias!r}]['REQUIRE']"
            yield Demand(who, alias, capability, "Give the bus the URL of one that does, or take it out of REQUIRE.")
        for option in ("tenants", "tenant_lanes"):
            if getattr(bus, option):
                who = f"KOAN['MESSAGING']['BUSES'][{alias!r}][{option.upper()!r}]"
                fix = f"Give the bus an amqp:// URL and no FAILOVER, or take out {option.upper()}."
                yield Demand(who, alias, "isolated", fix)


def _of_handlers() -> Iterator[Demand]:
    known = handlers.every()
    for each in known:
        if {"*", "#"} & set(each.pattern.split(".")):
            yield Demand(each.origin, each.bus, "patterns", "Name the messages one by one, or use another bus.")
        if each.declared_ordered or each.on_failure == "stop":
            yield Demand(each.origin, each.bus, "ordered", "Use a bus that keeps order, or do not ask for it.")
    for number, each in enumerate(known):
        if any(_shares(each, earlier) for earlier in known[:number]):
            yield Demand(
                each.origin, each.bus, "copies", "Put the handlers of a message into one group, or use another bus."
            )


def _shares(one: Handler, other: Handler) -> bool:
    """Whether a message goes to both, each in a group of its own."""
    if one.bus != other.bus or one.group == other.group:
        return False
    return one.receives(other.binding) or other.receives(one.binding)
