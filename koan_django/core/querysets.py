"""Verbs of core's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections, models

from .leases import LeasedQuerySet

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from .models import HealthFact, Lease  # noqa: F401  # Lease is named in a base class below


class HealthFactQuerySet(models.QuerySet["HealthFact"]):
    """Health facts by their age."""

    def current(self, now: datetime) -> HealthFactQuerySet:
        """Facts that count now."""
        return self.filter(expires_at__gt=now)

    def forgotten(self, now: datetime, after: timedelta) -> HealthFactQuerySet:
        """Facts that expired longer than ``after`` ago: their process is gone."""
        return self.filter(expires_at__lte=now - after)

    def record(self, fact: HealthFact) -> None:
        """Write ``fact`` over what its reporter said before; ``since`` stays while the status does."""
        same = self.filter(name=fact.name, reporter=fact.reporter, status=fact.status)
        changes: dict[str, Any] = {
            name: getattr(fact, name) for name in ("critical", "message", "data", "reported_at", "expires_at")
        }
        if same.update(**changes):
            return
        # MySQL resolves the conflict by any unique key and refuses to be told which.
        named = connections[self.db].features.supports_update_conflicts_with_target
        self.bulk_create(
            [fact],
            update_conflicts=True,
            unique_fields=["name", "reporter"] if named else None,
            update_fields=["status", "since", *changes],
        )


class LeaseQuerySet(LeasedQuerySet["Lease"]):
    """Named leases."""
