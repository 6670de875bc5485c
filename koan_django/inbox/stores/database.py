"""The store in the project's own database: the only one that commits together with the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F
from django.utils import timezone

from koan_django.core.context import new_id
from koan_django.core.exceptions import LeaseLostError
from koan_django.inbox.models import InboxEntry

from .base import Begun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from koan_django.core.leases import Held
    from koan_django.inbox.scopes import Scope


class DatabaseStore:
    """Rows of :class:`InboxEntry`."""

    def claim(self, scopes: Sequence[Scope]) -> list[bool]:
        """Insert and ignore conflicts, then see which rows bear this claim: two statements for any number."""
        claim = new_id()
        now = timezone.now()
        first_of = {scope.fingerprint: index for index, scope in reversed(list(enumerate(scopes)))}
        InboxEntry.objects.bulk_create(
            [_entry(scopes[index], claim, "processed", processed_at=now) for index in sorted(first_of.values())],
            ignore_conflicts=True,
        )
        mine = set(
            InboxEntry.objects.filter(fingerprint__in=first_of, claim=claim).values_list("fingerprint", flat=True)
        )
        fresh = [
            scope.fingerprint in mine and first_of[scope.fingerprint] == index for index, scope in enumerate(scopes)
        ]
        repeated = [scope.fingerprint for scope, is_fresh in zip(scopes, fresh, strict=True) if not is_fresh]
        if repeated:
            InboxEntry.objects.all().count_duplicates(repeated)
        return fresh

    def begin(self, scope: Scope, ttl: timedelta) -> Begun:
        """Insert the row if it is new, then take its lease."""
        rows = InboxEntry.objects.filter(fingerprint=scope.fingerprint)
        InboxEntry.objects.bulk_create([_entry(scope, new_id(), "processing", attempts=0)], ignore_conflicts=True)
        pk, state = rows.values_list("pk", "state").get()
        if state == "processed":
            InboxEntry.objects.all().count_duplicates([scope.fingerprint])
            return Begun("processed")
        lease = InboxEntry.objects.filter(state="processing").hold(pk, ttl)
        if lease is None:
            # Between the read and the take the work may have been finished; asking again tells.
            return Begun("busy")
        lease.rows().update(attempts=F("attempts") + 1)
        return Begun("acquired", lease)

    def finish(self, lease: Held) -> None:
        """Guarded by the token: a worker that was paused too long must not mark another's work."""
        done = lease.rows().update(state="processed", processed_at=timezone.now(), lease_until=None)
        if not done:
            raise LeaseLostError(
                "the handled message was taken over by another worker",
                why="its inbox lease was not renewed in time",
                fix="Nothing: the other worker handles it.",
            )

    def abandon(self, lease: Held) -> None:
        """The row stays, with its attempts."""
        lease.release()


def _entry(scope: Scope, claim: str, state: str, **columns: object) -> InboxEntry:
    return InboxEntry(
        fingerprint=scope.fingerprint,
        tenant=scope.tenant,
        bus=scope.bus,
        group=scope.group,
        handler=scope.handler,
        alias=scope.alias,
        key=scope.key[:255],
        claim=claim,
        state=state,
        **columns,
    )
