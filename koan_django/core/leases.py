"""Leases: exclusive use of a row for a limited time, with a fencing token.

An owner that was paused past the end of its lease may wake up and go on working. Every take raises the row's token, so
a write that names the token of its own lease (:meth:`LeasedQuerySet.held`) fails when somebody else has taken over.
Times are the database's own, so that the clocks of the workers do not matter.
"""

from __future__ import annotations

import contextlib
import math
import threading
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import DatabaseError, connections, models, router
from django.db.models import F, Q

from . import clock
from .context import bind
from .exceptions import LeaseLostError
from .functions import Now
from .process import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Leased(models.Model):
    """Abstract: a row that one owner at a time may work on."""

    lease_owner = models.CharField(max_length=120, blank=True, default="", editable=False)
    lease_token = models.BigIntegerField(default=0, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True


L = TypeVar("L", bound=Leased)


class LeasedQuerySet(models.QuerySet[L]):
    """The verbs of a leased row; each is one guarded UPDATE."""

    def free(self) -> LeasedQuerySet[L]:
        """Rows that nobody holds, or whose lease has ended."""
        return self.filter(Q(lease_until__isnull=True) | Q(lease_until__lte=Now()))

    def held(self, token: int) -> LeasedQuerySet[L]:
        """Rows held under ``token``, still: the filter of every write that must not outlive its lease."""
        return self.filter(lease_token=token, lease_until__gt=Now())

    def hold(self, pk: Any, ttl: timedelta) -> Held | None:
        """Take the row ``pk`` for ``ttl``, or return ``None`` when somebody else holds it or it does not exist."""
        owner = f"{identity()}:{uuid.uuid4().hex[:8]}"
        free = self.filter(pk=pk).free()
        if not free.update(lease_owner=owner, lease_token=F("lease_token") + 1, lease_until=Now() + ttl):
            return None
        using = free.db  # where the UPDATE went: a replica may not know of it yet
        row = self.model._base_manager.using(using).filter(pk=pk, lease_owner=owner)
        token = row.values_list("lease_token", flat=True).first()
        return None if token is None else Held(self.model, using, pk, owner, token, ttl)


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that was taken. ``token`` rises with every take of the row."""

    model: type[Leased]
    using: str
    pk: Any
    owner: str
    token: int
    ttl: timedelta

    def rows(self) -> LeasedQuerySet[Any]:
        """The row itself as long as the lease holds, else nothing: guard a write with it."""
        everything: LeasedQuerySet[Any] = LeasedQuerySet(self.model, using=self.using)
        return everything.filter(pk=self.pk).held(self.token)

    def renew(self, **values: Any) -> None:
        """Hold on for another ``ttl`` from now and write ``values`` with it; raises :class:`LeaseLostError`."""
        if not self.rows().update(lease_until=Now() + self.ttl, **values):
            raise self._lost()

    def check(self) -> None:
        """Raise :class:`LeaseLostError` unless the lease still holds."""
        if not self.rows().exists():
            raise self._lost()

    def release(self) -> None:
        """Give the row back; releasing a lost lease does nothing."""
        self.rows().update(lease_until=None)

    @contextlib.contextmanager
    def keep(
        self, *, limit: timedelta | None = None, values: Callable[[], Mapping[str, Any]] = dict
    ) -> Iterator[Heartbeat]:
        """Renew the lease on a thread of its own until the block ends. The block may ask ``heartbeat.lost``.

        After ``limit`` it is renewed no more, so that work which hangs does not hold the row for ever. What ``values``
        returns is written into the row with each renewal.
        """
        heartbeat = Heartbeat(self, limit, values)
        heartbeat.start()
        try:
            yield heartbeat
        finally:
            heartbeat.stop()

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"the lease on {self.model._meta.label} {self.pk} is lost",
            why=f"it was not renewed within {self.ttl.total_seconds():g} s and may belong to somebody else now",
            fix="Nothing: the work is done again by whoever holds it.",
        )


class Heartbeat(threading.Thread):
    """Renews a lease at a third of its time."""

    def __init__(
        self, held: Held, limit: timedelta | None = None, values: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        super().__init__(name="koan-heartbeat", daemon=True)
        self._held = held
        self._values = values
        self._end = math.inf if limit is None else clock.monotonic() + limit.total_seconds()
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._work = bind(self._beat)

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost."""
        return self._lost.is_set()

    def run(self) -> None:
        self._work()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        self.join()

    def _beat(self) -> None:
        try:
            while not self._ended.wait(self._held.ttl.total_seconds() / 3) and clock.monotonic() < self._end:
                try:
                    self._held.renew(**self._values())
                except LeaseLostError:
                    self._lost.set()
                    return
                except DatabaseError:
                    continue  # the next beat may succeed; if none does, the lease ends by itself
        finally:
            connections.close_all()


def acquire(name: str, ttl: timedelta, *, using: str | None = None) -> Held | None:
    """Take the lease called ``name`` for ``ttl``, or return ``None`` when it is taken."""
    from .models import Lease

    rows = Lease.objects.using(using or router.db_for_write(Lease))
    pk = rows.filter(name=name).values_list("pk", flat=True).first()
    if pk is None:
        rows.bulk_create([Lease(name=name)], ignore_conflicts=True)
        pk = rows.values_list("pk", flat=True).get(name=name)
    return rows.hold(pk, ttl)
