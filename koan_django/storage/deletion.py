"""Removing bytes: a tombstone is written with the change of the row, and worked off after the commit.

A process that dies in between leaves the tombstone, and the sweep goes on from there; a rollback takes it back. Before
bytes are removed, every model is asked whether a row names them again.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, router, transaction

from koan_django.core import audit
from koan_django.core.context import correlation
from koan_django.core.functions import Now
from koan_django.core.redaction import redact_text
from koan_django.core.retry import RetryPolicy

from . import operations, references
from .exceptions import TransferConflictError
from .models import Tombstone
from .profile import profiles

if TYPE_CHECKING:
    from django.db.models import Model

    from .fieldfile import Location

logger = logging.getLogger(__name__)

#: How long one attempt keeps others away.
LEASE = timedelta(minutes=5)
RETRY = RetryPolicy(first_delay=timedelta(seconds=30), max_delay=timedelta(hours=1))
#: How long a copy may take before the sweep takes it for dead.
RESERVED = timedelta(days=1)
#: Tombstones that one run of the sweep takes up.
BATCH = 500


def bury(location: Location, *, origin: str, instance: Model, size: int | None = None, sha256: str = "") -> Tombstone:
    """Have the object removed once the current transaction has committed."""
    using = router.db_for_write(Tombstone, instance=instance)
    tombstone = _tombstone(location, origin, using, size=size, sha256=sha256)
    _after_commit(tombstone.pk, using)
    return tombstone


def reserve(location: Location, *, origin: str, instance: Model, lasting: timedelta = RESERVED) -> Tombstone:
    """Announce an object that is about to be written for a row: if no row names it in time, the sweep removes it."""
    using = router.db_for_write(Tombstone, instance=instance)
    return _tombstone(location, origin, using, not_before=Now() + lasting)


def keep(reserved: Tombstone) -> None:
    """Let a reserved object live, in the transaction that makes a row name it.

    Raises ``TransferConflictError`` when the sweep has begun to remove it.
    """
    rows = Tombstone.objects.using(reserved._state.db).filter(pk=reserved.pk, attempts=0)
    if not rows.delete()[0]:
        raise TransferConflictError(
            f"{reserved} took too long", why="its reservation ended", fix="Nothing is lost; try again."
        )


def discard(reserved: Tombstone) -> None:
    """Have a reserved object removed: nothing is going to name it."""
    using = reserved._state.db or DEFAULT_DB_ALIAS
    Tombstone.objects.using(using).filter(pk=reserved.pk).update(not_before=None)
    _after_commit(reserved.pk, using)


def _tombstone(location: Location, origin: str, using: str, **values: Any) -> Tombstone:
    audit.touch()
    return Tombstone.objects.using(using).create(
        profile=location.profile,
        key=location.key,
        origin=origin,
        correlation_id=correlation.current() or "",
        **values,
    )


def _after_commit(pk: int, using: str) -> None:
    transaction.on_commit(partial(_dispatch, pk, using), using=using, robust=True)


def _dispatch(pk: int, using: str) -> None:
    from .tasks import purge as job

    if using == DEFAULT_DB_ALIAS:
        job.dispatch(pk)
    else:
        job.dispatch(pk, using)


def purge(pk: int, *, using: str = DEFAULT_DB_ALIAS) -> bool:
    """Remove the object of one tombstone; return whether this call settled it.

    It does not when another process is at it, or it waits after a failure. Raises what the store raises; the tombstone
    keeps the error and is tried again later, ever more slowly and without end.
    """
    tombstones = Tombstone.objects.using(using)
    claimed = tombstones.claim(pk, LEASE)
    if claimed is None:
        return False
    existed = None
    try:
        if references.is_live(claimed, using=using):
            logger.info("%s is kept: a row names it again", claimed)
        else:
            existed = operations.delete(profiles[claimed.profile], claimed.key)
    except Exception as error:
        text = redact_text(f"{type(error).__name__}: {error}")
        tombstones.failed(pk, text, RETRY.delay(claimed.attempts + 1))
        raise
    if existed is not None:
        _audit_purge(claimed, existed=existed)
    # The reservation of a writer that died may stand beside it: keys are not used twice, so it has nothing left to say.
    tombstones.filter(profile=claimed.profile, key=claimed.key).delete()
    return True


def _audit_purge(tombstone: Tombstone, *, existed: bool) -> None:
    """The bytes are gone; it belongs to the story of whoever deleted them."""
    data = {"profile": tombstone.profile, "key": tombstone.key, "origin": tombstone.origin, "existed": existed}
    with correlation.use(tombstone.correlation_id or correlation.current()):
        audit.record("storage.purge", audit.Reference("object", str(tombstone)), data=data)


def purge_now(tombstone: Tombstone) -> None:
    """Do as :func:`purge` without waiting for the next attempt to be due."""
    using = tombstone._state.db or DEFAULT_DB_ALIAS
    Tombstone.objects.using(using).filter(pk=tombstone.pk).update(not_before=None)
    purge(tombstone.pk, using=using)


def purge_due(limit: int = BATCH) -> int:
    """Take up what waits, oldest first; return how many were settled. One that fails does not stop the others."""
    settled = 0
    for using in references.aliases():
        due = Tombstone.objects.using(using).due().order_by("created_at").values_list("pk", flat=True)
        for pk in list(due[:limit]):
            try:
                settled += purge(pk, using=using)
            except Exception:
                logger.exception("The object of tombstone %s could not be removed; it is tried again later", pk)
    return settled
