"""What a consumer says about itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from koan_django.core import health
from koan_django.messaging import handlers

from .limits import overdue

if TYPE_CHECKING:
    from .consumer import Consumer

#: What a turn of the consuming thread may take: a connection, an answer of the broker, a locked database.
STUCK_SECONDS = 30.0


def finding_of(consumer: Consumer) -> health.Finding:
    """Return how ``consumer`` is, from any thread."""
    name = f"messaging.consumer.{consumer.bus.label}"
    data = {
        "groups": list(handlers.on_bus(consumer.bus.alias)),
        "in_flight": len(consumer.in_flight),
        "settled": consumer.handled,
    }
    if consumer.gate.held:
        data["held"] = sorted(consumer.gate.held)
    critical = not consumer.bus.redundant
    down: health.Status = "unhealthy" if critical else "degraded"
    if not consumer.consuming and not consumer.error and consumer.is_alive():
        return health.Finding(name, "degraded", "starting", critical=critical, data=data)
    if not (consumer.consuming and consumer.is_alive()):
        return health.Finding(name, down, consumer.error or "not consuming", critical=critical, data=data)
    late = "; ".join(map(str, overdue(consumer.bus.alias)))
    still = time.monotonic() - consumer.moved - consumer.bus.options.poll_interval.total_seconds()
    if still > STUCK_SECONDS:
        text = f"its thread has not moved for {still:.0f} s: it waits for the database or the broker"
        data["in"] = consumer.whereabouts()
        return health.Finding(name, down, text, critical=critical, data=data)
    trouble = consumer.trouble or late or consumer.stopped
    if trouble or consumer.draining.is_set():
        return health.Finding(name, "degraded", trouble or "draining", critical=critical, data=data)
    return health.Finding(name, "healthy", "consuming", critical=critical, data=data)
