"""Retention: whole sealed batches, oldest first, and never the newest one.

What goes leaves an event of its own, *audit.forget*, with the number and hash of the last seal that went. The chain is
verified from there: the event is sealed like any other, and carries a proof by the key, so that only who holds it can
say that the beginning of the chain was meant to go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import router, transaction
from django.utils import timezone

from koan_django.core.leases import acquire
from koan_django.core.section import options

from .canonical import sign
from .keys import KeyRing, key_ring
from .models import AuditEvent, AuditSeal
from .recording import record
from .sealing import LEASE, TTL

if TYPE_CHECKING:
    from datetime import datetime

ACTION = "audit.forget"
#: Seals whose events go in one transaction.
SEALS = 20


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the chain begins: after seal ``through``, whose hash was ``hash``."""

    through: int
    hash: str
    key_id: str
    proof: str

    @classmethod
    def of(cls, data: Any) -> Anchor | None:
        """Read what an event says; ``None`` when it says no such thing."""
        try:
            return cls(int(data["through"]), str(data["hash"]), str(data["key_id"]), str(data["proof"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def expected(self, key: bytes) -> str:
        """Return the proof that the holder of ``key`` gives."""
        return sign("forget", [self.through, self.hash, self.key_id], key)


def forget_old() -> int:
    """Delete what is older than the option ``RETENTION``; return how many events. Nothing without the option."""
    retention = options().audit.retention
    if retention is None:
        return 0
    keys, using = key_ring(), router.db_for_write(AuditSeal)
    held = acquire(LEASE, TTL)
    if held is None:
        return 0
    forgotten = 0
    try:
        while count := _forget(timezone.now() - retention, keys, using):
            forgotten += count
            held.renew()
    finally:
        held.release()
    return forgotten


def _forget(before: datetime, keys: KeyRing, using: str) -> int:
    with transaction.atomic(using=using):
        seals = AuditSeal.objects.using(using)
        head = seals.head()
        if head is None:
            return 0
        oldest = list(seals.sealed_before(before).exclude(pk=head.pk).order_by("number")[:SEALS])
        if not oldest:
            return 0
        pks = [each.pk for each in oldest]
        events = AuditEvent.objects.using(using).filter(seal__in=pks).forget()
        seals.filter(pk__in=pks).forget()
        record(ACTION, data=_data(oldest[-1], events, keys))
    return max(events, 1)


def _data(last: AuditSeal, events: int, keys: KeyRing) -> dict[str, Any]:
    anchor = Anchor(last.number, last.hash, keys.current, "")
    return {
        "through": anchor.through,
        "hash": anchor.hash,
        "events": events,
        "key_id": anchor.key_id,
        "proof": anchor.expected(keys.sealing),
    }
