"""Messaging: confirmed publishes, and a worker that empties a queue."""

from __future__ import annotations

from benchmarks.harness import Case

from . import consuming, publishing

SERVERS = ("postgres", "rabbitmq")


def cases() -> list[Case]:
    """Return the cases."""
    return [*publishing.cases(), *consuming.cases()]
