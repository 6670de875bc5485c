"""The stores that need nothing but the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from django.db import router
from django.utils import timezone

from koan_django.core.functions import Now

from .base import Fact, KnownFact, KnownLease, Status

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from koan_django.core.models import HealthFact
    from koan_django.core.querysets import LeaseQuerySet


@dataclass(frozen=True, slots=True)
class RowOptions:
    """Rows have none: the database router decides where they are."""


class Rows:
    """What the stores in rows share."""

    schema: ClassVar[type] = RowOptions
    keeps: ClassVar[str]

    def __init__(self, options: RowOptions) -> None:
        self.options = options

    def objections(self) -> Iterable[str]:
        """Nothing is wrong with options that are not there."""
        return ()

    def probe(self) -> None:
        """Nothing to add: the probe of the database asks whether it answers."""


class RowHealth(Rows):
    """Health facts as rows."""

    keeps = "health"

    def record(self, fact: Fact, ttl: timedelta) -> None:
        from koan_django.core.models import HealthFact

        now = timezone.now()
        row = HealthFact(
            name=fact.name,
            reporter=fact.reporter,
            status=fact.status,
            critical=fact.critical,
            message=fact.message,
            data=dict(fact.data),
            since=now,
            reported_at=now,
            expires_at=now + ttl,
        )
        HealthFact.objects.record(row)

    def facts(self, remembered: timedelta) -> list[KnownFact]:
        from koan_django.core.models import HealthFact

        now = timezone.now()
        HealthFact.objects.forgotten(now, remembered).delete()
        return [_known(row, now) for row in HealthFact.objects.order_by("name", "reporter")]

    def retract(self, reporter: str, names: Iterable[str] | None) -> None:
        from koan_django.core.models import HealthFact

        facts = HealthFact.objects.filter(reporter=reporter)
        (facts if names is None else facts.filter(name__in=list(names))).delete()


class RowLeases(Rows):
    """Named leases as rows; times are the database's."""

    keeps = "leases"

    def acquire(self, name: str, owner: str, ttl: timedelta) -> int | None:
        rows = self._rows()
        pk = rows.filter(name=name).values_list("pk", flat=True).first()
        if pk is None:
            rows.bulk_create([rows.model(name=name)], ignore_conflicts=True)
            pk = rows.values_list("pk", flat=True).get(name=name)
        held = rows.hold(pk, ttl, owner)
        return None if held is None else held.token

    def renew(self, name: str, token: int, ttl: timedelta) -> bool:
        return bool(self._rows().filter(name=name).held(token).update(lease_until=Now() + ttl))

    def holds(self, name: str, token: int) -> bool:
        return self._rows().filter(name=name).held(token).exists()

    def release(self, name: str, token: int) -> bool:
        return bool(self._rows().filter(name=name).held(token).update(lease_until=None))

    def leases(self) -> list[KnownLease]:
        rows = self._rows().order_by("name")
        columns = rows.values_list("name", "lease_owner", "lease_token", "lease_until", Now())
        return [KnownLease(name, owner, token, _future(until, now)) for name, owner, token, until, now in columns]

    def _rows(self) -> LeaseQuerySet:
        from koan_django.core.models import Lease

        return Lease.objects.using(router.db_for_write(Lease))


def _future(until: datetime | None, now: datetime) -> datetime | None:
    return until if until is not None and until > now else None


def _known(row: HealthFact, now: datetime) -> KnownFact:
    status: Status = row.status  # type: ignore[assignment]  # the column holds these words only
    fact = Fact(row.name, row.reporter, status, row.critical, row.message, row.data)
    return KnownFact(fact, row.since, row.reported_at, expired=row.expires_at <= now)
