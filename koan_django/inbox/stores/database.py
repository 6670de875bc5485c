"""The store in the project's own database: the only one that commits together with the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import router
from django.db.models import F
from django.utils import timezone

from koan_django.core.context import correlation, new_id
from koan_django.core.exceptions import LeaseLostError
from koan_django.core.inserting import insert
from koan_django.inbox.exceptions import InboxBusyError
from koan_django.inbox.models import InboxEntry

from .base import Begun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from koan_django.core.leases import Held
    from koan_django.inbox.querysets import InboxQuerySet
    from koan_django.inbox.scopes import Scope


class DatabaseStore:
    """Rows of :class:`InboxEntry`."""

    def claim(self, scopes: Sequence[Scope]) -> list[bool]:
        """Insert and ignore conflicts: one statement for one claim, and two for any number, if all of it is new."""
        claim = new_id()
        now = timezone.now()
        first_of = {scope.fingerprint: index for index, scope in reversed(list(enumerate(scopes)))}
        entries = [_entry(scopes[index], claim, "processed", processed_at=now) for index in sorted(first_of.values())]
        mine = self._insert(entries, claim)
        if len(mine) < len(first_of) and self._rows.finish_abandoned(first_of.keys() - mine, claim, now):
            mine = self._mine(first_of, claim)
        fresh = [
            scope.fingerprint in mine and first_of[scope.fingerprint] == index for index, scope in enumerate(scopes)
        ]
        repeated = [scope.fingerprint for scope, is_fresh in zip(scopes, fresh, strict=True) if not is_fresh]
        if repeated:
            self._refuse_unfinished(repeated)
            self._rows.count_duplicates(repeated)
        return fresh

    def begin(self, scope: Scope, ttl: timedelta) -> Begun:
        """Insert the row if it is new, then take its lease."""
        rows = self._rows.filter(fingerprint=scope.fingerprint)
        self._rows.bulk_create([_entry(scope, new_id(), "processing", attempts=0)], ignore_conflicts=True)
        pk, state = rows.values_list("pk", "state").get()
        if state == "processed":
            self._rows.count_duplicates([scope.fingerprint])
            return Begun("processed")
        lease = self._rows.filter(state="processing").hold(pk, ttl)
        if lease is None:
            # Between the read and the take the work may have been finished; asking again tells.
            return Begun("busy")
        lease.rows().update(attempts=F("attempts") + 1)
        return Begun("acquired", lease)

    def finish(self, lease: Held) -> None:
        """Guarded by the token: a worker that was paused too long must not mark another's work.

        A lease that has run out and that nobody has taken since is as good: the work is done.
        """
        mine = self._rows.filter(pk=lease.pk, lease_token=lease.token, state="processing")
        if not mine.update(state="processed", processed_at=timezone.now(), lease_until=None):
            raise LeaseLostError(
                "the handled message was taken over by another worker",
                why="its inbox lease was not renewed in time",
                fix="Nothing: the other worker handles it.",
            )

    def abandon(self, lease: Held) -> None:
        """The row stays, with its attempts."""
        lease.release()

    @property
    def _rows(self) -> InboxQuerySet:
        """Reads go where writes go: a replica may not know yet what was handled."""
        return InboxEntry.objects.using(router.db_for_write(InboxEntry))

    def _insert(self, entries: list[InboxEntry], claim: str) -> set[str]:
        """Return the fingerprints of the entries that are new; of a single one the database's count tells."""
        rows = self._rows
        if len(entries) == 1:
            is_new = insert(entries[0], using=rows.db, ignore_conflicts=True)
            return {entries[0].fingerprint} if is_new else set()
        rows.bulk_create(entries, ignore_conflicts=True)
        return self._mine([entry.fingerprint for entry in entries], claim)

    def _mine(self, fingerprints: Iterable[str], claim: str) -> set[str]:
        mine = self._rows.filter(fingerprint__in=list(fingerprints), claim=claim)
        return set(mine.values_list("fingerprint", flat=True))

    def _refuse_unfinished(self, fingerprints: list[str]) -> None:
        """What is being handled under a lease is no duplicate yet: it may still fail."""
        if self._rows.filter(fingerprint__in=fingerprints, state="processing").exists():
            raise InboxBusyError("the same work is being done now", why="another worker holds its lease")


def _entry(scope: Scope, claim: str, state: str, **columns: object) -> InboxEntry:
    return InboxEntry(
        fingerprint=scope.fingerprint,
        tenant=scope.tenant,
        bus=scope.bus,
        group=scope.group,
        handler=_shown(scope.handler),
        alias=scope.alias,
        key=_shown(scope.key),
        correlation_id=correlation.current() or "",
        claim=claim,
        state=state,
        **columns,
    )


def _shown(text: str) -> str:
    """``text`` as a person reads it; the fingerprint holds all of it."""
    return text.replace("\x00", "?").encode("utf-8", "replace").decode()[:255]
