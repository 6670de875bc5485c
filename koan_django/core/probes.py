"""Core's own readiness probes: the default database answers, and so do the stores that the settings choose."""

from __future__ import annotations

from django.db import connection

from . import health
from .stores import chosen


@health.probe("database")
def database() -> None:
    """Unhealthy when ``SELECT 1`` fails."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@health.probe("stores", critical=False)
def stores() -> None:
    """Degraded when the store of health facts, leases or breakers does not answer: pages go on without them."""
    for kind in chosen.KINDS:
        chosen.chosen(kind).probe()
