"""Claims work for a block, with any store.

In the database of the work's own transaction the claim is committed together with it. Anywhere else there are two
places, and no order of writing to both is safe by itself: work is claimed by a lease, done, and marked as processed
once it is committed. Whoever is killed between the commit and the mark leaves a lease that ends, and the work is done
again. The other order, the mark first, would lose it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

from django.db import transaction

from koan_django.core import faults
from koan_django.core.exceptions import LeaseLostError
from koan_django.core.heartbeats import beating
from koan_django.core.stores import STORE_ERRORS
from koan_django.core.telemetry import emit

from .condition import processed_unclaimed
from .conf import options
from .exceptions import InboxBusyError
from .scopes import Scope
from .stores import configured
from .stores.base import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .stores.base import CommittingStore, Store

logger = logging.getLogger(__name__)
_BEFORE_MARK = faults.point("inbox.claim.before_mark")


@contextmanager
def claiming(scopes: Sequence[Scope], *, using: str | None) -> Iterator[list[bool]]:
    """Claim each of ``scopes`` while the block runs; yield for each whether it is new.

    ``using`` is the database of the transaction that the block is in, ``None`` when it is in none. A block that raises
    gives back what it has claimed. Raises :class:`InboxBusyError` when another worker is at one of them.
    """
    together = None if using is None else committing(using)
    if together is not None:
        yield together.claim(scopes)
        return
    store = configured()
    taken = _take(store, scopes)
    if not taken.leases and not taken.repeated:
        yield taken.fresh
        return

    def mark() -> None:
        _mark(store, taken)

    if using is not None:
        # Before the block does the same: what it leaves for the commit may fail, and nothing after it would run.
        transaction.on_commit(mark, using=using, robust=True)
    with _held(store, taken.leases):
        yield taken.fresh
        if using is not None:
            _confirm(store, taken.leases, scopes)
    if using is None:
        _mark(store, taken, fenced=True)


def committing(using: str) -> CommittingStore | None:
    """Return the store if its claims commit together with what is done in the database ``using``."""
    store = configured()
    return cast("CommittingStore", store) if store.commits_with(using) else None


def _confirm(store: Store, leases: list[Lease], scopes: Sequence[Scope]) -> None:
    """Who was overtaken must not commit."""
    try:
        store.renew(leases)
    except STORE_ERRORS as error:
        _unavailable(scopes, error)


@dataclass(slots=True)
class _Taken:
    """What was claimed: the scopes that are new, each once, and those that came again beside them."""

    fresh: list[bool]
    leases: list[Lease] = field(default_factory=list)
    repeated: list[Scope] = field(default_factory=list)


def _take(store: Store, scopes: Sequence[Scope]) -> _Taken:
    """Begin each piece of work once, all of them or none."""
    first_of = {scope.fingerprint: index for index, scope in reversed(list(enumerate(scopes)))}
    firsts = sorted(first_of.values())
    fresh = [first_of[scope.fingerprint] == index for index, scope in enumerate(scopes)]
    try:
        begun = store.begin([scopes[index] for index in firsts], options().lease)
    except STORE_ERRORS as error:
        _unavailable(scopes, error)
        return _Taken(fresh)
    leases = [each.lease for each in begun if each.lease is not None]
    if any(each.status == "busy" for each in begun):
        _give_back(store, leases)
        raise InboxBusyError("the same work is being done now", why="another worker holds its lease")
    for index, each in zip(firsts, begun, strict=True):
        fresh[index] = each.lease is not None
    repeated = [scope for index, scope in enumerate(scopes) if first_of[scope.fingerprint] != index]
    return _Taken(fresh, leases, repeated)


def _unavailable(scopes: Sequence[Scope], error: Exception) -> None:
    """Raise ``error`` unless the work is to be done without a claim, as ``UNAVAILABLE`` says."""
    policy = options().unavailable
    emit("inbox.unavailable", policy=policy, handler=scopes[0].handler, messages=len(scopes))
    if policy == "raise":
        raise error
    logger.warning("%d pieces of work of %s are done without a claim: %s", len(scopes), scopes[0].handler, error)
    processed_unclaimed(len(scopes))


@contextmanager
def _held(store: Store, leases: list[Lease]) -> Iterator[None]:
    """Renew the leases while the block runs, and give them back when it raises."""
    if not leases:
        yield
        return
    try:
        with beating(partial(store.renew, leases), leases[0].ttl, None):
            yield
    except BaseException:
        _give_back(store, leases)
        raise


def _give_back(store: Store, leases: list[Lease]) -> None:
    """Try to: a lease that is not given back ends by itself."""
    if leases:
        with suppress(*STORE_ERRORS):
            store.release(leases)


def _mark(store: Store, taken: _Taken, *, fenced: bool = False) -> None:
    """Mark work that is done. A store that fails now must not have it done again, which the caller's retry would.

    ``fenced`` raises when another worker has taken over and will do it too.
    """
    _BEFORE_MARK()
    try:
        store.finish(taken.leases)
        store.count_duplicates(taken.repeated)
    except LeaseLostError as error:
        if fenced:
            raise
        _unmarked(taken, error)
    except STORE_ERRORS as error:
        _unmarked(taken, error)


def _unmarked(taken: _Taken, error: Exception) -> None:
    emit("inbox.unmarked", messages=len(taken.leases))
    logger.warning("%d pieces of work are done and not marked; a duplicate runs again: %s", len(taken.leases), error)
