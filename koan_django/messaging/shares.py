"""Shares leased rows among those who work on them: each takes as many as fall to it, and gives up what is too many.

What a worker leaves that stopped or was killed goes to the others. One that stood still knows by its own clock that its
leases have ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db import connections, transaction
from django.db.models import F

from koan_django.core import clock
from koan_django.core.functions import Now
from koan_django.core.leases import Leased, new_owner

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterable
    from datetime import timedelta

    from django.db.models import QuerySet

    from koan_django.core.leases import LeasedQuerySet

#: How often a worker looks who else is there.
LOOK_SECONDS = 1.0

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row", bound=Leased)


class Shares(ABC, Generic[Key, Row]):
    """What one worker holds of :meth:`rows`, for ``ttl`` since they were renewed.

    Rows are shared within their group. Every method but the properties uses the database.
    """

    def __init__(self, ttl: timedelta) -> None:
        self.held: dict[Key, Row] = {}
        self._ttl = ttl
        self._worker = new_owner()
        self._said = self._renewed = self._looked = float("-inf")

    @abstractmethod
    def rows(self) -> LeasedQuerySet[Row]:
        """What is shared."""

    @abstractmethod
    def key(self, row: Row) -> Key:
        """What a row is called in :attr:`held`."""

    @abstractmethod
    def members(self) -> QuerySet[Any]:
        """The rows of those who share, each with ``worker`` and ``until``."""

    @abstractmethod
    def say_alive(self) -> None:
        """Count as one of them for another ``ttl``."""

    @abstractmethod
    def workers(self) -> Counter[str]:
        """Return how many share each group."""

    def group(self, key: Key) -> str:
        """Within which group a row is shared."""
        return ""

    def is_shared(self, row: Row) -> bool:
        """Whether somebody is to work on a row now."""
        return True

    @property
    def is_due(self) -> bool:
        """Whether it is time for :meth:`look`."""
        return clock.monotonic() - self._looked >= min(LOOK_SECONDS, self._ttl.total_seconds() / 3)

    @property
    def age(self) -> float:
        """Seconds since the leases were renewed."""
        return clock.monotonic() - self._renewed

    @property
    def is_expired(self) -> bool:
        """Whether the leases have ended, as far as this process can tell: others may hold them now."""
        return bool(self.held) and self.age >= self._ttl.total_seconds()

    def look(self) -> tuple[list[Key], list[Key], list[Key]]:
        """Renew what is held, where a third of the lease has passed, and take what is free of this worker's share.

        Return what was gained, what is held and too many, and what was held and is not any more.
        """
        now = self._looked = clock.monotonic()
        if now - self._said >= self._ttl.total_seconds() / 3:
            self.say_alive()
            self._said = now
        if self.age >= self._ttl.total_seconds() / 3:
            self.renew()
        found: Iterable[Any] = self.rows().annotate(now=Now())
        rows: dict[Key, Row] = {self.key(row): row for row in found}
        lost = [key for key, before in self.held.items() if not self._is_mine(rows.get(key), before)]
        surplus, wanted = self._compare(rows, [key for key in self.held if key not in lost])
        self.noticed(rows.values())
        return self._take(wanted), surplus, lost

    def renew(self) -> bool:
        """Hold on to everything for another ``ttl``; return whether all of it was still held."""
        now = clock.monotonic()
        kept = self._mine(row.pk for row in self.held.values()).filter(lease_until__gt=Now())
        count = kept.update(lease_until=Now() + self._ttl) if self.held else 0
        self._renewed = now
        return count == len(self.held)

    def give_up(self, *keys: Key) -> None:
        """Let others have these."""
        dropped = [self.held.pop(key).pk for key in keys if key in self.held]
        if dropped:
            self._mine(dropped).update(lease_until=None)

    def forget(self) -> None:
        """The leases ended by themselves."""
        self.held.clear()

    def leave(self, running: Collection[Key] = ()) -> None:
        """Give up everything but ``running`` and count as a worker no longer; what follows is under another name."""
        self.give_up(*(key for key in list(self.held) if key not in running))
        self.members().filter(worker=self._worker).delete()
        self.held.clear()
        self._worker = new_owner()
        self._said = self._renewed = self._looked = float("-inf")

    def noticed(self, rows: Iterable[Row]) -> None:
        """Take note of what all rows are like."""

    def _compare(self, rows: dict[Key, Row], kept: list[Key]) -> tuple[list[Key], list[Any]]:
        """Return which of ``kept`` are too many, and the pks of what is free and falls to this worker."""
        surplus: list[Key] = []
        wanted: list[Any] = []
        active: dict[str, list[Key]] = {}
        for key, row in rows.items():
            if self.is_shared(row):
                active.setdefault(self.group(key), []).append(key)
        workers = self.workers()
        for group, keys in active.items():
            share = -(-len(keys) // max(workers[group], 1))
            mine = [key for key in kept if self.group(key) == group]
            surplus += mine[share:]
            free = [rows[key].pk for key in keys if not _is_held(rows[key]) and key not in self.held]
            wanted += free[: max(share - len(mine), 0)]
        return surplus, wanted

    def _take(self, pks: list[Any]) -> list[Key]:
        """Take those of ``pks`` that nobody holds and nobody is taking at this moment."""
        if not pks:
            return []
        features = connections[self.rows().db].features
        with transaction.atomic(using=self.rows().db):
            free = self.rows().filter(pk__in=pks).free()
            if features.has_select_for_update:
                free = free.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
            found = list(free.values_list("pk", flat=True))
            rows = self.rows().filter(pk__in=found).free()  # once more, for a database without row locks
            rows.update(lease_owner=self._worker, lease_token=F("lease_token") + 1, lease_until=Now() + self._ttl)
        taken = {self.key(row): row for row in self._mine(found)}
        self.held |= taken
        return list(taken)

    def _mine(self, pks: Iterable[Any]) -> LeasedQuerySet[Row]:
        return self.rows().filter(pk__in=list(pks), lease_owner=self._worker)

    def _is_mine(self, row: Any, before: Row) -> bool:
        return (
            row is not None
            and row.lease_owner == self._worker
            and row.lease_token == before.lease_token
            and _is_held(row)
        )


def _is_held(row: Any) -> bool:
    return row.lease_until is not None and row.lease_until > row.now
