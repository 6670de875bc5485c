"""The store in the project's own database: the only one that commits together with the work."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import connections, router
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
    from datetime import timedelta

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
        """Insert and ignore conflicts: one statement, if all of it is new."""
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
        if len(mine) < len(first_of) and self._rows.finish_abandoned(first_of.keys() - mine, claim, now):
            mine = self._mine(first_of, claim)
        fresh = [each in mine and first_of[each] == index for index, each in enumerate(fingerprints)]
        repeated = [each for each, is_fresh in zip(fingerprints, fresh, strict=True) if not is_fresh]
        if repeated:
            self._refuse_unfinished(repeated)
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
        self._rows.bulk_create(
            (
                InboxEntry(**_columns(scope, each), claim=claim, state="processing", **lease)
                for each, scope in sorted(zip(fingerprints, scopes, strict=True), key=itemgetter(0))
            ),
            ignore_conflicts=True,
        )
        rows = self._rows.filter(fingerprint__in=fingerprints).values_list("fingerprint", "pk", "state", "claim")
        known = {row[0]: row for row in rows}
        mine = {fingerprint for fingerprint, *_, each in known.values() if each == claim}
        begun = []
        for each in fingerprints:
            if each in mine:
                begun.append(Begun("acquired", Lease(each, _FIRST, ttl)))
                mine.remove(each)  # who names it twice is told that it is being done
            else:
                _fingerprint, pk, state, _claim = known[each]
                begun.append(self._begin(each, pk, state, ttl))
        return begun

    def renew(self, leases: Sequence[Lease]) -> None:
        """Rows whose lease still holds; the token keeps out who was overtaken."""
        for token, same in _by_token(leases):
            held = self._mine_under(token, same).held(token)
            if held.update(lease_until=Now() + same[0].ttl) < len(same):
                raise overtaken()

    def finish(self, leases: Sequence[Lease]) -> None:
        """Guarded by the token: a worker that was paused too long must not mark another's work.

        A lease that has run out and that nobody has taken since is as good: the work is done.
        """
        done = {"state": "processed", "processed_at": timezone.now(), "lease_until": None}
        marked = sum(self._mine_under(token, same).update(**done) for token, same in _by_token(leases))
        if marked < len(leases):
            raise overtaken()

    def release(self, leases: Sequence[Lease]) -> None:
        """The rows stay, with their attempts."""
        for token, same in _by_token(leases):
            self._mine_under(token, same).update(lease_until=None)

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

    def _refuse_unfinished(self, fingerprints: list[str]) -> None:
        """What is being handled under a lease is no duplicate yet: it may still fail."""
        if self._rows.filter(fingerprint__in=fingerprints, state="processing").exists():
            raise InboxBusyError("the same work is being done now", why="another worker holds its lease")


def _by_token(leases: Iterable[Lease]) -> list[tuple[int, list[Lease]]]:
    """Mostly all of them have the same: that of a row that was never held before."""
    found: dict[int, list[Lease]] = {}
    for lease in leases:
        found.setdefault(lease.token, []).append(lease)
    return list(found.items())


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
