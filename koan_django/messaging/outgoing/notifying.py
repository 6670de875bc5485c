"""Tells who waits that there is something to fetch, at the sender's commit: PostgreSQL's NOTIFY.

The notification names a bus and carries nothing. Whoever misses it finds the rows at the next poll.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from django.db import connections

from koan_django.messaging.conf import options

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: A commit that notifies waits for every other that does. Beyond so many a second from one process nobody is asleep.
MOST_PER_SECOND = 100


def channel_of(bus: str) -> str:
    """Return the channel of a bus; PostgreSQL takes no more than 63 bytes."""
    return f"koan.bus.{bus}"[:63]


def notify(bus: str, using: str) -> None:
    """Wake whoever waits for ``bus`` when the open transaction commits; one statement for each transaction at most."""
    channel = to_tell(bus, using)
    if channel:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [channel])


def to_tell(bus: str, using: str) -> str:
    """Return the channel that is to be told in the open transaction, and is from now on; nothing if none is."""
    connection, configured = connections[using], options().buses.get(bus)
    if connection.vendor != "postgresql" or configured is None or not configured.notify:
        return ""
    told = _told.get(connection)
    if told is None or not told.holds(connection):
        told = _told[connection] = _Told(connection)
    if bus in told.buses or not _allowance.take(bus):
        return ""
    told.buses.add(bus)
    return channel_of(bus)


class _Told:
    """The buses that were told of in one transaction."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.buses: set[str] = set()
        self._hooks: Any = connection.run_on_commit

    def holds(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the transaction is the same still, and nothing of it was rolled back.

        Django makes a new list of hooks at each commit and rollback, that of a savepoint too.
        """
        return self._hooks is connection.run_on_commit


class _Allowance:
    """So many notifications for each bus and second."""

    def __init__(self) -> None:
        self._second = 0
        self._left: dict[str, int] = {}

    def take(self, bus: str) -> bool:
        """Use one up, if any is left. Two threads that do so at once may get one too many."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, defaultdict(lambda: MOST_PER_SECOND)
        self._left[bus] -= 1
        return self._left[bus] >= 0


_told: WeakKeyDictionary[BaseDatabaseWrapper, _Told] = WeakKeyDictionary()
_allowance = _Allowance()
