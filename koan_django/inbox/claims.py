"""``inbox.claim()``: deduplication for webhooks and everything else that is not a message of the bus."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, transaction

from koan_django.core.audit import touch
from koan_django.core.context import tenant
from koan_django.core.databases import open_transactions
from koan_django.core.telemetry import emit

from .exceptions import InboxError
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
def claim(source: str, key: str, *, using: str | None = None) -> Iterator[Claim]:
    """Claim ``key`` of ``source`` for the block, in a transaction.

    The claim stands when that transaction is committed: in the database ``using``, else in the one in which a
    transaction is open already, else in the one that is the default. With the store in that database it commits
    together with the work, and a concurrent claim of the same key waits for this one. With any other store it is a
    lease, marked as processed after the commit, and a concurrent claim raises :class:`InboxBusyError`. When the block
    or the transaction fails, the work may be claimed again.

    Raises:
        TypeError: ``source`` or ``key`` is no text.
        ValueError: one of them is empty.
        InboxError: transactions are open in several databases, and none is named.
    """
    from .claiming import claiming

    for name, value in (("source", source), ("key", key)):
        if not isinstance(value, str):
            raise TypeError(f"{name}={value!r} of a claim is no text: give it as str")
        if not value:
            raise ValueError(f"the {name} of a claim is empty: all that have none would count as one piece of work")
    touch()
    using = using or _database()
    scope = Scope(tenant.current() or "", "", "", source, "", key)
    with transaction.atomic(using=using), claiming([scope], using=using) as fresh:
        if not fresh[0]:
            emit("inbox.duplicate", source=source)
        yield Claim(source, key, duplicate=not fresh[0])


def _database() -> str:
    opened = open_transactions()
    if len(opened) > 1:
        named = ", ".join(map(repr, opened))
        raise InboxError(
            f"transactions are open in the databases {named}, and none is named",
            why="a claim stands when one of them is committed, and is given back when that is rolled back",
            fix=f"Say in which one the work is done, as using={opened[0]!r}.",
        )
    return opened[0] if opened else DEFAULT_DB_ALIAS
