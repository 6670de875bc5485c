"""What the service does with a key, over whichever store the settings name."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from koan_django.core.exceptions import LeaseLostError
from koan_django.inbox.claiming import claiming
from koan_django.inbox.conf import options
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores import configured
from koan_django.inbox.stores.base import Lease

from .problems import Problem

if TYPE_CHECKING:
    from datetime import datetime

    from koan_django.inbox.stores.base import Seen, Store

#: In the place of a handler's name: keys of the service never meet those of this project's own handlers.
SOURCE = "http"


def look(key: str) -> dict[str, Any]:
    """Say what is known of ``key``. The fencing token is its holder's alone."""
    seen = _store().look(_scope(key))
    return {
        "key": key,
        "status": seen.status.capitalize(),
        "leased": seen.held,
        "attempts": seen.attempts,
        "duplicates": seen.duplicates,
        "firstSeen": _text(seen.first_seen_at),
        "processedAt": _text(seen.processed_at),
    }


def begin(key: str, lease_seconds: int | None) -> dict[str, Any]:
    """Take ``key`` under a lease, if it is free and not processed."""
    ttl = _ttl(lease_seconds)
    (begun,) = _store().begin([_scope(key)], ttl)
    if begun.lease is None:
        return {"key": key, "status": begun.status.capitalize()}
    return {"key": key, "status": "Acquired", "fencingToken": begun.lease.token, **_until(ttl)}


def mark(key: str, fencing_token: int | None) -> dict[str, Any]:
    """Note that the work of ``key`` is done: by the holder of its lease, or by whoever did it without one."""
    store, scope = _store(), _scope(key)
    if fencing_token is None:
        with transaction.atomic(), claiming([scope], using=DEFAULT_DB_ALIAS):
            pass
    else:
        try:
            store.finish([Lease(scope.fingerprint, fencing_token, options().lease)])
        except LeaseLostError:
            raise _lost(store.look(scope), fencing_token) from None
    return {"key": key, "status": "Processed"}


def renew(key: str, fencing_token: int, lease_seconds: int | None) -> dict[str, Any]:
    """Hold on to ``key`` for another while."""
    store, scope, ttl = _store(), _scope(key), _ttl(lease_seconds)
    try:
        store.renew([Lease(scope.fingerprint, fencing_token, ttl)])
    except LeaseLostError:
        raise _lost(store.look(scope), fencing_token) from None
    return {"key": key, "status": "Renewed", **_until(ttl)}


def release(key: str, fencing_token: int) -> dict[str, Any]:
    """Give ``key`` back undone, to be begun again at once."""
    store, scope = _store(), _scope(key)
    seen = store.look(scope)
    if seen.status != "processing" or seen.token != fencing_token or not seen.held:
        raise _lost(seen, fencing_token)
    store.release([Lease(scope.fingerprint, fencing_token, options().lease)])
    return {"key": key, "status": "Released"}


def _lost(seen: Seen, fencing_token: int) -> Problem:
    if seen.status == "processed":
        return Problem(409, "already-processed", "The work of this key is done; no lease of it holds any more")
    if seen.token != fencing_token:
        return Problem(409, "foreign-token", "The fencing token is not that of this key's lease")
    return Problem(409, "lease-expired", "The lease was not renewed in time: begin again")


def _store() -> Store:
    """The store that the settings name, unless it is this very service or another one like it."""
    if options().store == "http":
        raise Problem(503, "loop", "The store of this service is a service itself", {"Retry-After": "60"})
    return configured()


def _scope(key: str) -> Scope:
    return Scope("", "", "", SOURCE, "", key)


def _ttl(seconds: int | None) -> timedelta:
    return options().lease if seconds is None else timedelta(seconds=seconds)


def _until(ttl: timedelta) -> dict[str, Any]:
    return {"leaseSeconds": int(ttl.total_seconds()), "expiresAt": _text(timezone.now() + ttl)}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
