"""``inbox.claim()``: deduplication for webhooks and everything else that is not a message of the bus."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, transaction

from koan_django.core.audit import touch
from koan_django.core.context import tenant
from koan_django.core.telemetry import emit

from .scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do a piece of work. ``duplicate`` when it was done before: do nothing then."""

    source: str
    key: str
    duplicate: bool


@contextmanager
def claim(source: str, key: str) -> Iterator[Claim]:
    """Claim ``key`` of ``source`` for the block, in a transaction.

    In the database of that transaction the claim commits together with the work, and a concurrent claim of the same
    key waits for this one. With any other store it is a lease, marked as processed after the commit, and a concurrent
    claim raises :class:`InboxBusyError`. When the block raises, the work may be claimed again.
    """
    from .claiming import claiming

    touch()
    scope = Scope(tenant.current() or "", "", "", source, "", key)
    with transaction.atomic(), claiming([scope], using=DEFAULT_DB_ALIAS) as fresh:
        if not fresh[0]:
            emit("inbox.duplicate", source=source)
        yield Claim(source, key, duplicate=not fresh[0])
