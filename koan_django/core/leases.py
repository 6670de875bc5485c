"""Leases: exclusive use of a row, or of a name, for a limited time, with a fencing token.

An owner that was paused past the end of its lease may wake up and go on working. Every take raises the token, so a
write that names the token of its own lease (:meth:`LeasedQuerySet.held`) fails when somebody else has taken over.
Times are those of the database or store, so that the clocks of the workers do not matter.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models
from django.db.models import F, Q

from .exceptions import LeaseLostError
from .functions import Now
from .heartbeats import beating
from .process import identity
from .stores import LeaseStore, lease_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from .heartbeats import Heartbeat


class Leased(models.Model):
    """Abstract: a row that one owner at a time may work on."""

    lease_owner = models.CharField(max_length=120, blank=True, default="", db_default="", editable=False)
    lease_token = models.BigIntegerField(default=0, db_default=0, editable=False)
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

    def hold(self, pk: Any, ttl: timedelta, owner: str = "") -> Held | None:
        """Take the row ``pk`` for ``ttl``, or return ``None`` when somebody else holds it or it does not exist."""
        owner = owner or new_owner()
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
            raise lost(f"{self.model._meta.label} {self.pk}", self.ttl)

    def check(self) -> None:
        """Raise :class:`LeaseLostError` unless the lease still holds."""
        if not self.rows().exists():
            raise lost(f"{self.model._meta.label} {self.pk}", self.ttl)

    def release(self) -> None:
        """Give the row back; releasing a lost lease does nothing."""
        self.rows().update(lease_until=None)

    def keep(
        self, *, limit: timedelta | None = None, values: Callable[[], Mapping[str, Any]] = dict
    ) -> AbstractContextManager[Heartbeat]:
        """Renew the lease on a thread of its own until the block ends. The block may ask ``heartbeat.lost``.

        After ``limit`` it is renewed no more, so that work which hangs does not hold the row for ever. What ``values``
        returns is written into the row with each renewal.
        """
        return beating(lambda: self.renew(**values()), self.ttl, limit)


@dataclass(frozen=True, slots=True)
class NamedLease:
    """A name that was taken. ``token`` rises with every take of it.

    Write ``token`` into what the lease protects, guarded by ``fence__lte=lease.token``: then the late write of an owner
    who has lost the lease, without knowing it yet, changes nothing.
    """

    store: LeaseStore
    name: str
    owner: str
    token: int
    ttl: timedelta

    def renew(self) -> None:
        """Hold on for another ``ttl`` from now; raises :class:`LeaseLostError`."""
        if not self.store.renew(self.name, self.token, self.ttl):
            raise lost(self.name, self.ttl)

    def check(self) -> None:
        """Raise :class:`LeaseLostError` unless the lease still holds."""
        if not self.store.holds(self.name, self.token):
            raise lost(self.name, self.ttl)

    def release(self) -> None:
        """Give the name back; releasing a lost lease does nothing."""
        self.store.release(self.name, self.token)

    def keep(self, *, limit: timedelta | None = None) -> AbstractContextManager[Heartbeat]:
        """Renew the lease on a thread of its own until the block ends, at most for ``limit``."""
        return beating(self.renew, self.ttl, limit)


def acquire(name: str, ttl: timedelta) -> NamedLease | None:
    """Take the lease called ``name`` for ``ttl``, or return ``None`` when it is taken.

    Raises one of ``stores.STORE_ERRORS`` when the store of leases cannot be reached.
    """
    store, owner = lease_store(), new_owner()
    token = store.acquire(name, owner, ttl)
    return None if token is None else NamedLease(store, name, owner, token, ttl)


def new_owner() -> str:
    """Return a name for one take of a lease: this process, and digits that are another's never."""
    return f"{identity()}:{uuid.uuid4().hex[:8]}"


def lost(what: str, ttl: timedelta) -> LeaseLostError:
    """Return the error that says that the lease on ``what`` is lost."""
    return LeaseLostError(
        f"the lease on {what} is lost",
        why=f"it was not renewed within {ttl.total_seconds():g} s and may belong to somebody else now",
        fix="Nothing: the work is done again by whoever holds it.",
    )
