"""Spreads the partitions of ordered groups over the workers, by leases.

Each worker takes as many as fall to it, gives up what is too many when another joins, and takes over what a worker
leaves that stopped or was killed. A worker that stood still knows by its own clock that its leases have ended.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from django.db import router
from django.db.models import Count, F, Q

from koan_django.core.functions import Now
from koan_django.core.leases import new_owner

from .lines import Lane

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import timedelta

    from django.db.models import QuerySet

    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handling.verdicts import Verdict
    from koan_django.messaging.models import Partition, PartitionWorker
    from koan_django.messaging.querysets import PartitionQuerySet

#: What of the label fits into the column.
BUS_LENGTH = 191
#: How often a worker looks who else is there.
LOOK_SECONDS = 1.0


class Shares:
    """What one consumer holds of the partitions of ``groups`` on the bus called ``label``.

    Every method but the properties uses the database.
    """

    def __init__(self, label: str, groups: Iterable[str], partitions: int, ttl: timedelta) -> None:
        self.groups = tuple(groups)
        self.held: dict[Lane, Partition] = {}
        self.tokens: dict[Lane, int] = {}
        self._label = label[:BUS_LENGTH]
        self._partitions = partitions
        self._ttl = ttl
        #: Lanes that wait for somebody's decision.
        self.stopped: list[Lane] = []
        self._worker = new_owner()
        self._renewed = self._looked = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it is time for :meth:`look`."""
        return bool(self.groups) and time.monotonic() - self._looked >= min(LOOK_SECONDS, self._ttl.total_seconds() / 3)

    @property
    def is_expired(self) -> bool:
        """Whether the leases have ended, as far as this process can tell: others may hold them now."""
        return bool(self.held) and time.monotonic() - self._renewed >= self._ttl.total_seconds()

    def declare(self) -> None:
        """Write a row for each partition. Those of an earlier, higher number of them stay, and are worked off."""
        known = set(self._rows().values_list("group", "number"))
        missing = {(group, number) for group in self.groups for number in range(self._partitions)} - known
        if missing:
            model = self._rows().model
            rows = [model(bus=self._label, group=group, number=number) for group, number in sorted(missing)]
            self._rows().bulk_create(rows, ignore_conflicts=True)

    def numbers(self) -> dict[str, list[int]]:
        """Return the numbers of the partitions by group."""
        found: dict[str, list[int]] = {group: [] for group in self.groups}
        for group, number in self._rows().order_by("number").values_list("group", "number"):
            found[group].append(number)
        return found

    def look(self) -> tuple[list[Lane], list[Lane], list[Lane]]:
        """Renew what is held and take what is free of this worker's share.

        Return what was gained, what is held and too many, and what was held and is not any more.
        """
        now = time.monotonic()
        self._looked = now
        self._say_alive()
        if self.held:
            self._rows().filter(lease_owner=self._worker, lease_until__gt=Now()).update(lease_until=Now() + self._ttl)
        rows = {Lane(row.group, row.number): row for row in self._rows().annotate(now=Now())}
        mine = {lane for lane, row in rows.items() if row.lease_owner == self._worker and _is_held(row)}
        lost = [lane for lane in self.held if lane not in mine or rows[lane].lease_token != self.tokens[lane]]
        self._renewed = now
        surplus: list[Lane] = []
        wanted: list[int] = []
        workers = self._workers()
        for group in self.groups:
            active = [lane for lane, row in rows.items() if lane.group == group and row.state != "stopped"]
            share = -(-len(active) // max(workers[group], 1))
            kept = [lane for lane in self.held if lane.group == group and lane not in lost]
            surplus += kept[share:]
            free = [rows[lane].pk for lane in active if not _is_held(rows[lane]) and lane not in self.held]
            wanted += free[: max(share - len(kept), 0)]
        self.stopped = [lane for lane, row in rows.items() if row.state == "stopped"]
        return self._take(wanted), surplus, lost

    def give_up(self, lane: Lane) -> None:
        """Let another worker have ``lane``."""
        if self.held.pop(lane, None) is not None:
            self._rows().filter(self._is(lane), lease_owner=self._worker).update(lease_until=None)

    def forget(self) -> None:
        """The leases ended by themselves."""
        self.held.clear()

    def leave(self, running: Collection[Lane]) -> None:
        """Give up everything but ``running`` and count as a worker no longer; what follows is under another name."""
        mine = self._rows().filter(lease_owner=self._worker)
        for lane in running:
            mine = mine.exclude(self._is(lane))
        mine.update(lease_until=None)
        self._members().filter(worker=self._worker).delete()
        self.held.clear()
        self._worker, self._looked = new_owner(), float("-inf")

    def block(self, lane: Lane, delivery: Delivery, verdict: Verdict) -> None:
        """Write down for which message the partition waits, or that it has stopped."""
        envelope, stops = delivery.envelope, verdict.outcome == "stop"
        attempt = envelope.attempt + (verdict.outcome == "retry")
        if lane in self.held:
            self.held[lane].message_id, self.held[lane].attempt = envelope.id, attempt
        self._rows().filter(self._is(lane), lease_owner=self._worker).update(
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
        row = self._rows().filter(self._is(lane), lease_owner=self._worker)
        row.update(state="open", skip=False, **cleared)
        if lane in self.held:
            self.held[lane].message_id, self.held[lane].skip = "", False

    def _say_alive(self) -> None:
        until = Now() + self._ttl
        mine = self._members().filter(worker=self._worker)
        if mine.update(until=until) != len(self.groups):
            model = self._members().model
            rows = [model(bus=self._label, group=group, worker=self._worker, until=until) for group in self.groups]
            self._members().bulk_create(rows, ignore_conflicts=True)
            self._members().filter(until__lte=Now()).delete()

    def _workers(self) -> Counter[str]:
        counts = self._members().filter(until__gt=Now()).values("group").annotate(count=Count("id"))
        return Counter({row["group"]: row["count"] for row in counts.order_by()})

    def _take(self, pks: list[int]) -> list[Lane]:
        """Take those that nobody holds, in one guarded UPDATE."""
        if not pks:
            return []
        free = self._rows().filter(pk__in=pks).free()
        free.update(lease_owner=self._worker, lease_token=F("lease_token") + 1, lease_until=Now() + self._ttl)
        taken = {Lane(row.group, row.number): row for row in self._rows().filter(pk__in=pks, lease_owner=self._worker)}
        self.held |= taken
        self.tokens |= {lane: row.lease_token for lane, row in taken.items()}
        return list(taken)

    def _is(self, lane: Lane) -> Q:
        return Q(group=lane.group, number=lane.number)

    def _rows(self) -> PartitionQuerySet:
        from koan_django.messaging.models import Partition

        return Partition.objects.all().primary().filter(bus=self._label, group__in=self.groups)

    def _members(self) -> QuerySet[PartitionWorker]:
        from koan_django.messaging.models import PartitionWorker

        rows = PartitionWorker.objects.using(router.db_for_write(PartitionWorker))
        return rows.filter(bus=self._label, group__in=self.groups)


def _is_held(row: Any) -> bool:
    return row.lease_until is not None and row.lease_until > row.now
