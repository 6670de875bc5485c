"""Core's own readiness probe: the default database answers."""

from __future__ import annotations

from django.db import connection

from . import health


@health.probe("database")
def database() -> None:
    """Unhealthy when ``SELECT 1`` fails."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
