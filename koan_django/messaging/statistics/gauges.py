"""What waits, and what needs attention, as numbers for metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core.gauges import Reading, source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .status import BusStatus


@source("messaging")
def messaging_gauges() -> Iterator[Reading]:
    """Say what ``koan_status`` says. What a bus does not know is left out."""
    from .status import status

    found = status()
    for bus in found.buses:
        yield from _bus(bus)
    yield Reading("koan_messaging_dead_letters", "Dead letters that nobody has settled", found.dead)
    for each in found.handlers:
        labels = {"bus": each.row.bus, "group": each.row.group, "handler": each.row.name}
        held = each.state in ("paused", "open", "half-open")
        yield Reading("koan_messaging_handler_held", "Whether a handler is paused or its breaker open", held, labels)


def _bus(bus: BusStatus) -> Iterator[Reading]:
    labels = {"bus": bus.alias}
    yield Reading("koan_messaging_bus_up", "Whether a bus answers", not bus.error, labels)
    yield Reading("koan_messaging_outbox_pending", "Messages in the outbox", bus.pending, labels)
    yield Reading("koan_messaging_outbox_parked", "Messages set aside in the outbox", bus.parked, labels)
    lag = bus.lag.total_seconds()
    yield Reading("koan_messaging_outbox_lag_seconds", "How long the oldest due message waits there", lag, labels)
    for depth in bus.depths:
        both = {**labels, "group": depth.group}
        known = {
            "koan_messaging_waiting": ("Messages that wait for a group", depth.waiting),
            "koan_messaging_taken": ("Messages that workers have taken and not settled", depth.in_progress),
            "koan_messaging_consumers": ("Workers that consume a group", depth.consumers),
        }
        for name, (text, value) in known.items():
            if value is not None and value >= 0:
                yield Reading(name, text, value, both)
