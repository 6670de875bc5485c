"""Messaging: confirmed publishes, a worker that empties a queue, and the way from one to the other."""

from __future__ import annotations

from benchmarks.harness import Case

from . import consuming, hops, publishing

SERVERS = ("postgres", "rabbitmq")


def cases() -> list[Case]:
    """Return the cases."""
    return [*publishing.cases(), *consuming.cases(), *hops.cases()]
