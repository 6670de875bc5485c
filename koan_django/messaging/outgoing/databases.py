"""In which database's outbox a message waits: in that of the transaction that it is part of.

Messaging's tables are in one database, which the project's routers choose. ``OUTBOX_DATABASES`` names others that have
them too, for messages of transactions there; each is published by a relay of its own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, connections, router

from koan_django.core.databases import open_transactions
from koan_django.messaging.conf import options
from koan_django.messaging.exceptions import OutboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.messaging.models import OutboxMessage


def main() -> str:
    """Return the database of messaging's tables."""
    return router.db_for_write(rows())


@cache
def rows() -> type[OutboxMessage]:
    """Return the model of the outbox, which is there once the apps are; it is asked for with each message."""
    from koan_django.messaging.models import OutboxMessage

    return OutboxMessage


def every() -> tuple[str, ...]:
    """Return the databases that have an outbox, that of messaging's tables first."""
    return tuple(dict.fromkeys((main(), *options().outbox_databases)))


def is_obvious(using: str | None) -> bool:
    """Whether :func:`choose` looks at no transaction, so that any thread may ask."""
    return using is not None or len(connections.settings) == 1


def choose(using: str | None) -> str:
    """Return the database ``using``, or that of the open transaction; without any, the one that is the default.

    Raises :class:`OutboxError` for one without an outbox, and when several transactions are open and none is named.
    """
    if using is not None:
        return _known(using)
    if len(connections.settings) == 1:  # it looks at no transaction, as is_obvious() says
        return DEFAULT_DB_ALIAS
    opened = open_transactions()
    if len(opened) == 1 and opened[0] in every():
        return opened[0]
    default = options().default_database
    if default is not None or not opened:
        return default or main()
    raise _unclear(opened)


def _known(using: str) -> str:
    if using in every():
        return using
    raise OutboxError(
        f"the database {using!r} has no outbox",
        why=f"messages are kept in {_listed(every())}",
        fix=f"Add {using!r} to OUTBOX_DATABASES in KOAN['MESSAGING'], and run `migrate --database {using}`.",
    )


def _unclear(opened: Sequence[str]) -> OutboxError:
    if len(opened) > 1:
        return OutboxError(
            f"transactions are open in {_listed(opened)}, and none is named",
            why="a message is committed with one of them, and rolled back with it",
            fix=f"Say which, as using={opened[0]!r}; or set DEFAULT_DATABASE in KOAN['MESSAGING'].",
        )
    [alias] = opened
    return OutboxError(
        f"a transaction is open in {alias!r}, which has no outbox",
        why="the message would be sent even if that transaction were rolled back",
        fix=f"Add {alias!r} to OUTBOX_DATABASES in KOAN['MESSAGING'], and run `migrate --database {alias}`;"
        f" or say using={main()!r}, if it is to be sent whatever becomes of that transaction.",
    )


def _listed(aliases: Sequence[str]) -> str:
    *others, last = map(repr, aliases)
    return f"{', '.join(others)} and {last}" if others else last
