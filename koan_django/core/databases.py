"""Connections of long-lived threads and processes: kept as long as they work."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.db import connections

logger = logging.getLogger(__name__)


def keep_usable() -> None:
    """Replace this thread's connections that failed or reached their ``CONN_MAX_AGE``.

    Django's own ``close_old_connections`` would also close every connection whose maximum age is 0, its default, and
    a worker would connect anew for each piece of work.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block or connection.connection is None:
            continue
        age_limit = connection.settings_dict["CONN_MAX_AGE"]
        too_old = age_limit and connection.close_at is not None and time.monotonic() >= connection.close_at
        if too_old or (connection.errors_occurred and not connection.is_usable()):
            connection.close()
        else:
            connection.errors_occurred = False


def open_transactions() -> list[str]:
    """Return the databases in which this thread has a transaction open, without those of Django's test cases."""
    return [
        each.alias
        for each in connections.all(initialized_only=True)
        if each.in_atomic_block and not _is_of_test_case(each)
    ]


def close_old() -> None:
    """As Django's ``close_old_connections``, but in a ``TestCase``, whose transaction it would end."""
    for connection in connections.all(initialized_only=True):
        if not (connection.in_atomic_block and _is_of_test_case(connection)):
            connection.close_if_unusable_or_obsolete()


def _is_of_test_case(connection: Any) -> bool:
    """Whether a ``TestCase`` opened all of its transaction: Django marks it so."""
    return all(block._from_testcase for block in connection.atomic_blocks)


def renew() -> None:
    """Give this thread fresh connections after an exception that came out of a signal.

    It may have struck between a ``BEGIN`` and the line that remembers it: the transaction would stay open, with its
    locks, on a connection that believes it has none.
    """
    for connection in connections.all(initialized_only=True):
        try:
            connection.close()
        except Exception:
            logger.exception("The connection %s did not close", connection.alias)
        del connections[connection.alias]
