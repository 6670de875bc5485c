"""The store in the project's own database: the only one that commits together with the work."""

from __future__ import annotations

import time
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import connections, router, transaction
from django.db.models import Count, F, Sum
from django.utils import timezone

from koan_django.core.context import correlation, new_id
from koan_django.core.functions import Now
from koan_django.core.inserting import insert, insert_all
from koan_django.core.leases import new_owner
from koan_django.inbox.exceptions import InboxBusyError
from koan_django.inbox.models import InboxEntry

from .base import Begun, Figures, Lease, NoOptions, Seen, overtaken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from koan_django.inbox.querysets import InboxQuerySet
    from koan_django.inbox.scopes import Scope

#: The token of a row that was never held before.
_FIRST = 1


class DatabaseStore:
    """Rows of :class:`InboxEntry`; what one holds unless it is said is work that is done."""

    schema: ClassVar[type] = NoOptions

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def objections(self) -> Iterable[str]:
        """Nothing: the database router decides where the rows are."""
        return ()

    def probe(self) -> None:
        """Nothing to add: the probe of the database asks whether it answers."""

    def commits_with(self, using: str) -> bool:
        """Not where a router keeps the entries in another database than the work."""
        return router.db_for_write(InboxEntry) == using

    def claim(self, scopes: Sequence[Scope]) -> list[bool]:
        """Insert and ignore conflicts: one statement, if all of it is new, and two more for what is not."""
        if len(scopes) == 1:
            [scope] = scopes
            columns = _columns(scope, scope.fingerprint)
            columns["processed_at"] = timezone.now()
            if insert(InboxEntry, columns, using=router.db_for_write(InboxEntry), ignore_conflicts=True):
                return [True]
        return self._claim_all(scopes)

    def _claim_all(self, scopes: Sequence[Scope]) -> list[bool]:
        """Claim several, of which any may be there or come twice; or one that :meth:`claim` has found there."""
        now, fingerprints = timezone.now(), [scope.fingerprint for scope in scopes]
        entries = [
            {**_columns(scope, each), "processed_at": now} for scope, each in zip(scopes, fingerprints, strict=True)
        ]
        claim = new_id()
        first_of = {fingerprint: index for index, fingerprint in reversed(list(enumerate(fingerprints)))}
        # In the same order everywhere: two that claim the same in orders of their own would each wait for the other.
        ordered = [entries[index] for _fingerprint, index in sorted(first_of.items())]
        mine = self._insert(ordered, claim) if len(entries) > 1 else set()
        if others := sorted(first_of.keys() - mine):
            mine |= self._take_over(others, claim, now)
        fresh = [each in mine and first_of[each] == index for index, each in enumerate(fingerprints)]
        if repeated := [each for each, is_fresh in zip(fingerprints, fresh, strict=True) if not is_fresh]:
            self._rows.count_duplicates(repeated)
        return fresh

    def look(self, scope: Scope) -> Seen:
        rows = self._rows.filter(fingerprint=scope.fingerprint)
        row = rows.first()
        if row is None:
            return Seen("unknown")
        return Seen(
            "processed" if row.state == "processed" else "processing",
            token=row.lease_token,
            held=rows.held(row.lease_token).exists(),
            attempts=row.attempts,
            duplicates=row.duplicates,
            first_seen_at=row.first_seen_at,
            processed_at=row.processed_at,
        )

    def begin(self, scopes: Sequence[Scope], ttl: timedelta) -> list[Begun]:
        """Insert what is new with its lease, and take the lease of what was there before."""
        fingerprints, claim = [scope.fingerprint for scope in scopes], new_id()
        lease = {"lease_owner": new_owner(), "lease_token": _FIRST, "lease_until": Now() + ttl}
        entries = [
            InboxEntry(**_columns(scope, each), claim=claim, state="processing", **lease)
            for each, scope in sorted(zip(fingerprints, scopes, strict=True), key=itemgetter(0))
        ]
        mine = self._rows.filter(fingerprint__in=fingerprints, claim=claim, lease_token=_FIRST)
        with transaction.atomic(using=mine.db, savepoint=False):  # those that are new are held by all or by nobody
            began = time.monotonic()
            self._rows.bulk_create(entries, ignore_conflicts=True)
            if time.monotonic() - began > ttl.total_seconds() / 10:  # it waited for another's transaction
                mine.update(lease_until=Now() + ttl)
            rows = self._rows.filter(fingerprint__in=fingerprints).values_list("fingerprint", "pk", "state", "claim")
            known = {row[0]: row for row in rows}
        new = {fingerprint for fingerprint, *_, each in known.values() if each == claim}
        begun = []
        for each in fingerprints:
            if each in new:
                begun.append(Begun("acquired", Lease(each, _FIRST, ttl)))
                new.remove(each)  # who names it twice is told that it is being done
            elif each in known:
                _fingerprint, pk, state, _claim = known[each]
                begun.append(self._begin(each, pk, state, ttl))
            else:
                begun.append(Begun("busy"))  # it was forgotten a moment ago: asking again tells that it is new
        return begun

    def renew(self, leases: Sequence[Lease]) -> None:
        """Rows whose lease still holds; the token keeps out who was overtaken."""
        for one, same in _alike(leases):
            held = self._mine_under(one.token, same).held(one.token)
            if held.update(lease_until=Now() + one.ttl) < len(same):
                raise overtaken()

    def finish(self, leases: Sequence[Lease]) -> None:
        """Guarded by the token: a worker that was paused too long must not mark another's work.

        A lease that has run out and that nobody has taken since is as good: the work is done.
        """
        done = {"state": "processed", "processed_at": timezone.now(), "lease_until": None}
        marked = sum(self._mine_under(one.token, same).update(**done) for one, same in _alike(leases))
        if marked < len(leases):
            raise overtaken()

    def release(self, leases: Sequence[Lease]) -> None:
        """The rows stay, with their attempts."""
        for one, same in _alike(leases):
            self._mine_under(one.token, same).update(lease_until=None)

    def count_duplicates(self, scopes: Sequence[Scope]) -> None:
        self._rows.count_duplicates([scope.fingerprint for scope in scopes])

    def figures(self) -> Figures:
        states = dict(self._rows.order_by().values_list("state").annotate(count=Count("pk")))
        repeated = self._rows.filter(duplicates__gt=0).order_by().values_list("handler")
        duplicates = dict(repeated.annotate(total=Sum("duplicates")).order_by("handler"))
        return Figures(states.get("processed", 0), states.get("processing", 0), duplicates)

    def _begin(self, fingerprint: str, pk: int, state: str, ttl: timedelta) -> Begun:
        if state == "processed":
            self._rows.count_duplicates([fingerprint])
            return Begun("processed")
        held = self._rows.filter(state="processing").hold(pk, ttl)
        if held is None:
            # Between the read and the take the work may have been finished; asking again tells.
            return Begun("busy")
        held.rows().update(attempts=F("attempts") + 1)
        return Begun("acquired", Lease(fingerprint, held.token, ttl))

    def _mine_under(self, token: int, leases: Sequence[Lease]) -> InboxQuerySet:
        """Their rows, as long as nobody has taken them since."""
        fingerprints = [lease.fingerprint for lease in leases]
        return self._rows.filter(fingerprint__in=fingerprints, lease_token=token, state="processing")

    @property
    def _rows(self) -> InboxQuerySet:
        """Reads go where writes go: a replica may not know yet what was handled."""
        return InboxEntry.objects.using(router.db_for_write(InboxEntry))

    def _insert(self, entries: Sequence[dict[str, Any]], claim: str) -> set[str]:
        """Return the fingerprints of the entries that are new."""
        using = router.db_for_write(InboxEntry)
        returning = "fingerprint" if connections[using].features.can_return_rows_from_bulk_insert else ""
        rows = [{**entry, "claim": claim} for entry in entries]
        found = insert_all(InboxEntry, rows, using=using, ignore_conflicts=True, returning=returning)
        return set(found) if returning else self._mine((entry["fingerprint"] for entry in entries), claim)

    def _mine(self, fingerprints: Iterable[str], claim: str) -> set[str]:
        mine = self._rows.filter(fingerprint__in=list(fingerprints), claim=claim)
        return set(mine.values_list("fingerprint", flat=True))

    def _take_over(self, fingerprints: list[str], claim: str, now: datetime) -> set[str]:
        """Of work that was there before, claim and return what was given up. The rest is done: duplicates.

        What is being done under a lease is no duplicate yet: it may still fail. Nor is what was forgotten meanwhile.
        """
        # In the order of the INSERT, before an UPDATE takes them in one of its own.
        rows = self._rows.filter(fingerprint__in=fingerprints).order_by("fingerprint").select_for_update()
        states = dict(rows.values_list("fingerprint", "state"))
        unfinished = [each for each in fingerprints if states.get(each) != "processed"]
        if unfinished and self._rows.finish_abandoned(unfinished, claim, now) < len(unfinished):
            raise InboxBusyError("the same work is being done now", why="another worker holds its lease")
        return set(unfinished)


def _alike(leases: Iterable[Lease]) -> list[tuple[Lease, list[Lease]]]:
    """Leases by token and length: mostly all have those of a row that was never held before."""
    found: dict[tuple[int, timedelta], list[Lease]] = {}
    for lease in leases:
        found.setdefault((lease.token, lease.ttl), []).append(lease)
    return [(same[0], same) for same in found.values()]


def _columns(scope: Scope, fingerprint: str) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "tenant": scope.tenant,
        "bus": scope.bus,
        "group": scope.group,
        "handler": _shown(scope.handler),
        "alias": scope.alias,
        "key": _shown(scope.key),
        "correlation_id": correlation.current() or "",
    }


def _shown(text: str) -> str:
    """``text`` as a person reads it; the fingerprint holds all of it."""
    return text.replace("\x00", "?").encode("utf-8", "replace").decode()[:255]
