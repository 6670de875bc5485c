"""The lanes of the outbox that one relay holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from django.db import connections

from koan_django.core.functions import Now
from koan_django.messaging.routing import LANES
from koan_django.messaging.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from django.db.models import QuerySet

    from koan_django.messaging.models import OutboxLane, OutboxRelay
    from koan_django.messaging.querysets import OutboxLaneQuerySet


class Lanes(Shares[int, "OutboxLane"]):
    """What one relay of the bus called ``bus`` holds of its lanes in the database ``using``."""

    def __init__(self, bus: str, ttl: timedelta, using: str) -> None:
        super().__init__(ttl)
        self._bus, self._using = bus, using

    def tend(self) -> bool:
        """Take this relay's share, if it is time to look; return whether a lane was gained."""
        if not self.is_due:
            return False
        gained, surplus, lost = self.look()
        for number in lost:
            del self.held[number]
        self.give_up(*surplus)
        return bool(gained)

    def hold(self, age: timedelta) -> bool:
        """Hold every lane, renewed no longer than ``age`` ago; if one was lost, look at the next :meth:`tend`."""
        if self.age < age.total_seconds() or self.renew():
            return True
        self._looked = float("-inf")
        return False

    def fence(self, numbers: Iterable[int]) -> set[int]:
        """Return which of these lanes are still held; nobody takes one before the open transaction ends."""
        mine = self.rows().filter(number__in=list(numbers), lease_owner=self._worker, lease_until__gt=Now())
        if connections[mine.db].features.has_select_for_update:
            mine = mine.select_for_update()
        tokens = {number: row.lease_token for number, row in self.held.items()}
        return {row.number for row in mine if tokens.get(row.number) == row.lease_token}

    # what is shared

    def rows(self) -> OutboxLaneQuerySet:
        from koan_django.messaging.models import OutboxLane

        return OutboxLane.objects.using(self._using).filter(bus=self._bus)

    def key(self, row: OutboxLane) -> int:
        return row.number

    def members(self) -> QuerySet[OutboxRelay]:
        from koan_django.messaging.models import OutboxRelay

        return OutboxRelay.objects.using(self._using).filter(bus=self._bus)

    def say_alive(self) -> None:
        until = Now() + self._ttl
        if self.members().filter(worker=self._worker).update(until=until):
            return
        self.members().bulk_create([self.members().model(bus=self._bus, worker=self._worker, until=until)])
        self.members().filter(until__lte=Now()).delete()
        self._declare()

    def workers(self) -> Counter[str]:
        return Counter({"": self.members().filter(until__gt=Now()).count()})

    def _declare(self) -> None:
        """Write a row for each lane; they stay."""
        known = set(self.rows().values_list("number", flat=True))
        missing = [self.rows().model(bus=self._bus, number=number) for number in range(LANES) if number not in known]
        if missing:
            self.rows().bulk_create(missing, ignore_conflicts=True)
