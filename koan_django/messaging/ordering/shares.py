"""Spreads the partitions of ordered groups over the workers, by leases."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from django.db import router
from django.db.models import Count, Q

from koan_django.core.functions import Now
from koan_django.messaging import shares

from .lines import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from django.db.models import QuerySet

    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handling.verdicts import Verdict
    from koan_django.messaging.models import Partition, PartitionWorker
    from koan_django.messaging.querysets import PartitionQuerySet

#: What of the label fits into the column.
BUS_LENGTH = 191


class Shares(shares.Shares[Lane, "Partition"]):
    """What one consumer holds of the partitions of ``groups`` on the bus called ``label``."""

    def __init__(self, label: str, groups: Iterable[str], partitions: int, ttl: timedelta) -> None:
        super().__init__(ttl)
        self.groups = tuple(groups)
        self._label = label[:BUS_LENGTH]
        self._partitions = partitions
        #: Lanes that wait for somebody's decision.
        self.stopped: list[Lane] = []

    @property
    def is_due(self) -> bool:
        return bool(self.groups) and super().is_due

    def declare(self) -> None:
        """Write a row for each partition. Those of an earlier, higher number of them stay, and are worked off."""
        known = set(self.rows().values_list("group", "number"))
        missing = {(group, number) for group in self.groups for number in range(self._partitions)} - known
        if missing:
            model = self.rows().model
            rows = [model(bus=self._label, group=group, number=number) for group, number in sorted(missing)]
            self.rows().bulk_create(rows, ignore_conflicts=True)

    def numbers(self) -> dict[str, list[int]]:
        """Return the numbers of the partitions by group."""
        found: dict[str, list[int]] = {group: [] for group in self.groups}
        for group, number in self.rows().order_by("number").values_list("group", "number"):
            found[group].append(number)
        return found

    def block(self, lane: Lane, delivery: Delivery, verdict: Verdict) -> None:
        """Write down for which message the partition waits, or that it has stopped."""
        envelope, stops = delivery.envelope, verdict.outcome == "stop"
        attempt = envelope.attempt + (verdict.outcome == "retry")
        if lane in self.held:
            self.held[lane].message_id, self.held[lane].attempt = envelope.id, attempt
        self.rows().filter(self._is(lane), lease_owner=self._worker).update(
            state="stopped" if stops else "blocked",
            message_id=envelope.id,
            alias=envelope.alias,
            handler=verdict.handler,
            attempt=attempt,
            error=f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}"[:500],
            since=Now(),
            skip=False,
        )

    def unblock(self, lane: Lane) -> None:
        """The message was handled, or set aside."""
        cleared = {"message_id": "", "alias": "", "handler": "", "attempt": 1, "error": "", "since": None}
        row = self.rows().filter(self._is(lane), lease_owner=self._worker)
        row.update(state="open", skip=False, **cleared)
        if lane in self.held:
            self.held[lane].message_id, self.held[lane].skip = "", False

    # what is shared

    def rows(self) -> PartitionQuerySet:
        from koan_django.messaging.models import Partition

        return Partition.objects.all().primary().filter(bus=self._label, group__in=self.groups)

    def key(self, row: Partition) -> Lane:
        return Lane(row.group, row.number)

    def group(self, key: Lane) -> str:
        return key.group

    def is_shared(self, row: Partition) -> bool:
        return row.state != "stopped"

    def noticed(self, rows: Iterable[Partition]) -> None:
        self.stopped = [self.key(row) for row in rows if row.state == "stopped"]

    def members(self) -> QuerySet[PartitionWorker]:
        from koan_django.messaging.models import PartitionWorker

        rows = PartitionWorker.objects.using(router.db_for_write(PartitionWorker))
        return rows.filter(bus=self._label, group__in=self.groups)

    def say_alive(self) -> None:
        until = Now() + self._ttl
        mine = self.members().filter(worker=self._worker)
        if mine.update(until=until) != len(self.groups):
            model = self.members().model
            rows = [model(bus=self._label, group=group, worker=self._worker, until=until) for group in self.groups]
            self.members().bulk_create(rows, ignore_conflicts=True)
            self.members().filter(until__lte=Now()).delete()

    def workers(self) -> Counter[str]:
        counts = self.members().filter(until__gt=Now()).values("group").annotate(count=Count("id"))
        return Counter({row["group"]: row["count"] for row in counts.order_by()})

    def _is(self, lane: Lane) -> Q:
        return Q(group=lane.group, number=lane.number)
