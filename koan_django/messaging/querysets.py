"""Verbs of messaging's rows. Times are compared by the database's own clock."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import connections, models, transaction
from django.db.models import F
from django.db.models.functions import Now

from koan_django.core.leases import LeasedQuerySet
from koan_django.core.process import identity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from .models import DeadLetter, OutboxMessage, QueuedDelivery  # noqa: F401  # named in base classes as text


class OutboxQuerySet(models.QuerySet["OutboxMessage"]):
    """Messages that wait to be published."""

    def pending(self, bus: str) -> OutboxQuerySet:
        """Messages of ``bus`` that wait, now or for later."""
        return self.filter(bus=bus, state="pending")

    def due(self, bus: str, limit: int) -> list[OutboxMessage]:
        """The next messages to publish, in the order in which they were written."""
        return list(self.pending(bus).filter(available_at__lte=Now()).order_by("id")[:limit])

    def park(self, pk: int, reason: str) -> int:
        """Set a message aside with its reason; nothing publishes it until somebody says so."""
        return self.filter(pk=pk).update(state="parked", last_error=reason[:500], tries=F("tries") + 1)

    def put_off(self, pks: Iterable[int], reason: str, wait: timedelta) -> int:
        """Try these again after ``wait``."""
        return self.filter(pk__in=list(pks)).update(
            available_at=Now() + wait, last_error=reason[:500], tries=F("tries") + 1
        )


class DeliveryQuerySet(LeasedQuerySet["QueuedDelivery"]):
    """The queue of the database bus."""

    def waiting(self, bus: str, group: str) -> DeliveryQuerySet:
        """Deliveries of a group that are due and nobody handles."""
        return self.filter(bus=bus, group=group, available_at__lte=Now()).free()  # type: ignore[return-value]

    def claim(self, bus: str, group: str, limit: int, ttl: timedelta) -> list[QueuedDelivery]:
        """Take up to ``limit`` waiting deliveries for ``ttl``: higher priority first, then the oldest."""
        owner = f"{identity()}:{uuid.uuid4().hex[:8]}"
        features = connections[self.db].features
        with transaction.atomic(using=self.db):
            rows = self.waiting(bus, group).order_by("-priority", "id")
            if features.has_select_for_update:
                rows = rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
            pks = list(rows.values_list("pk", flat=True)[:limit])
            if not pks:
                return []
            self.filter(pk__in=pks).update(lease_owner=owner, lease_token=F("lease_token") + 1, lease_until=Now() + ttl)
        return list(self.filter(pk__in=pks, lease_owner=owner).order_by("-priority", "id"))

    def extend(self, taken: Iterable[tuple[int, int]], ttl: timedelta) -> None:
        """Hold on to deliveries, given as (pk, token), for another ``ttl``."""
        for token, pks in _by_token(taken):
            self.filter(pk__in=pks).held(token).update(lease_until=Now() + ttl)

    def finish(self, taken: Iterable[tuple[int, int]]) -> int:
        """Delete deliveries, given as (pk, token), that nobody else has taken since; return how many."""
        return sum(self.filter(pk__in=pks, lease_token=token)._raw_delete(self.db) for token, pks in _by_token(taken))

    def put_back(self, pk: int, token: int, *, attempt: int, wait: timedelta, error: str) -> bool:
        """Let a delivery that nobody else has taken since be tried again after ``wait``."""
        mine = self.filter(pk=pk, lease_token=token)
        return bool(mine.update(attempt=attempt, available_at=Now() + wait, lease_until=None, last_error=error[:500]))


def _by_token(taken: Iterable[tuple[int, int]]) -> Iterable[tuple[int, list[int]]]:
    """Group pks by their token, for one statement each; first takes share the token 1."""
    tokens: dict[int, list[int]] = {}
    for pk, token in taken:
        tokens.setdefault(token, []).append(pk)
    return tokens.items()


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    """Messages that could not be handled."""

    def dead(self) -> DeadLetterQuerySet:
        """Those that nobody has replayed or discarded."""
        return self.filter(state="dead")
