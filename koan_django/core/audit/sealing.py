"""Seals events in batches: each seal covers the events that it was given, and the seal before it.

Which seal covers an event is written in the event's row, never inferred from ids: a transaction that took a low id and
commits late leaves an event without a seal, and the next batch takes it. Two sealers cannot fork the chain: the number
of a seal is unique, and an event that another one took makes the batch fail as a whole. The lease only keeps them from
doing the same work.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, router, transaction
from django.utils import timezone

from koan_django.core.exceptions import LeaseLostError
from koan_django.core.leases import acquire
from koan_django.core.section import options
from koan_django.core.telemetry import emit

from .canonical import FORMAT, GENESIS, digest, seal_hash
from .keys import KeyRing, key_ring
from .models import AuditEvent, AuditSeal
from .reading import pages

if TYPE_CHECKING:
    from koan_django.core.leases import NamedLease

logger = logging.getLogger(__name__)

LEASE = "koan_core.audit"
TTL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one run did. ``busy`` when somebody else seals now; ``head`` is the newest seal, if there is one."""

    batches: int
    events: int
    head: str
    busy: bool = False


class _TakenError(Exception):
    """Another sealer was faster."""


def seal(limit: int | None = None) -> Sealed:
    """Seal what has no seal, at most ``limit`` batches of the option ``BATCH``; return what was done."""
    keys = key_ring()
    using = router.db_for_write(AuditSeal)
    held = acquire(LEASE, TTL)
    if held is None:
        return Sealed(0, 0, _head(), busy=True)
    try:
        return _seal_all(held, keys, using, limit)
    finally:
        held.release()


def _seal_all(held: NamedLease, keys: KeyRing, using: str, limit: int | None) -> Sealed:
    batches = events = 0
    while limit is None or batches < limit:
        try:
            made = seal_batch(keys, using)
            if made is None:
                break
            batches, events = batches + 1, events + made.count
            held.renew()
        except (_TakenError, LeaseLostError):
            logger.info("Another process seals the audit events; it goes on from here")
            return Sealed(batches, events, _head(), busy=True)
    return Sealed(batches, events, _head())


def seal_batch(keys: KeyRing, using: str) -> AuditSeal | None:
    """Seal one batch in one transaction; ``None`` when every event that can be read has its seal."""
    with transaction.atomic(using=using):
        rows = _waiting(using)
        if not rows:
            return None
        made = _next(AuditSeal.objects.using(using).head(), rows, keys)
        try:
            with transaction.atomic(using=using):
                made.save(using=using)
        except IntegrityError as error:
            raise _TakenError from error
        if AuditEvent.objects.using(using).put_under(made, [row[0] for row in rows]) != len(rows):
            raise _TakenError
    # The log is kept elsewhere: a chain that was cut off at its end is shorter than what stands there.
    emit("audit.seal", head=f"{made.number}:{made.hash}", events=made.count)
    return made


def _waiting(using: str) -> list[tuple[Any, ...]]:
    """Return the next events to seal. What cannot be read stays without a seal, and is said each time."""
    for page in pages(AuditEvent.objects.using(using).unsealed(), options().audit.batch):
        if page.unreadable:
            text = "%d audit events cannot be read and stay without a seal, first %s: they were not written by record()"
            logger.error(text, len(page.unreadable), page.unreadable[:10])
        if page.rows:
            return page.rows
    return []


def _next(head: AuditSeal | None, rows: list[tuple[Any, ...]], keys: KeyRing) -> AuditSeal:
    made = AuditSeal(
        number=1 if head is None else head.number + 1,
        format=FORMAT,
        previous=GENESIS if head is None else head.hash,
        first_id=rows[0][0],
        last_id=rows[-1][0],
        count=len(rows),
        digest=digest(rows),
        key_id=keys.current,
        sealed_at=timezone.now(),
    )
    made.hash = seal_hash(made, keys.sealing)
    return made


def _head() -> str:
    head = AuditSeal.objects.all().primary().head()
    return "" if head is None else f"{head.number}:{head.hash}"
