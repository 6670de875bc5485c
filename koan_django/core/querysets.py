"""Verbs of core's rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.db import connections, models
from django.db.models import Q
from django.utils import timezone

from .leases import LeasedQuerySet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from .facts import Fact
    from .models import Election, HealthFact, Lease, ProcessFact  # noqa: F401  # some are named in base classes below


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
        _upsert(self, [fact], ["name", "reporter"], ["status", "since", *changes])


class ProcessFactQuerySet(models.QuerySet["ProcessFact"]):
    """Facts by their age."""

    def current(self, now: datetime) -> ProcessFactQuerySet:
        """Facts of processes that live."""
        return self.filter(expires_at__gt=now)

    def forgotten(self, now: datetime, after: timedelta) -> ProcessFactQuerySet:
        """Facts that expired longer than ``after`` ago: their process is gone."""
        return self.filter(expires_at__lte=now - after)

    def record(self, facts: Sequence[Fact], reporter: str, expires_at: datetime) -> None:
        """Write ``facts`` over what ``reporter`` said before; ``since`` stays while the selection does."""
        now = timezone.now()
        before = {row.subject: row for row in self.filter(reporter=reporter)}
        rows = []
        for fact in facts:
            old = before.get(fact.subject)
            since = old.since if old is not None and old.selection == fact.selection else now
            rows.append(self.model(**asdict(fact), reporter=reporter, since=since, expires_at=expires_at))
        _upsert(self, rows, ["subject", "reporter"], ["selection", "reason", "alternatives", "since", "expires_at"])


def _upsert(rows: models.QuerySet[Any], objects: list[Any], unique: list[str], changes: list[str]) -> None:
    """Insert ``objects``, or update ``changes`` of those whose ``unique`` fields are there already."""
    # MySQL resolves the conflict by any unique key and refuses to be told which.
    named = connections[rows.db].features.supports_update_conflicts_with_target
    rows.bulk_create(objects, update_conflicts=True, unique_fields=unique if named else None, update_fields=changes)


class ElectionQuerySet(models.QuerySet["Election"]):
    """What was elected."""

    def weaker(self, now: datetime, *, priority: int, place: int) -> ElectionQuerySet:
        """Elections of something worse, or of something that nobody keeps alive."""
        worse = Q(priority__lt=priority) | Q(priority=priority, place__gt=place)
        return self.filter(worse | Q(alive_until__lte=now))


class LeaseQuerySet(LeasedQuerySet["Lease"]):
    """Named leases."""
