"""Inside a ``TestCase`` nothing is ever committed: what the kit must know of its transactions, and of real ones."""

from __future__ import annotations

import logging
from typing import Any

from django.db import connections

logger = logging.getLogger(__name__)


def blocks_under_test(connection: Any) -> list[Any]:
    """Return the open blocks of ``atomic()`` that the test's framework has not opened itself."""
    return [block for block in connection.atomic_blocks if not block._from_testcase]


def uncommitted() -> list[str]:
    """Return the aliases of databases with an open transaction of the code under test."""
    opened = connections.all(initialized_only=True)
    return [connection.alias for connection in opened if blocks_under_test(connection)]


def run_callbacks() -> int:
    """Run what waits for the commit of a test's own transaction, once each, as its commit would; return how many.

    What ``setUpTestData`` left there stays: it belongs to all tests of its class.
    """
    ran = 0
    for connection in connections.all(initialized_only=True):
        while (found := _first(connection)) is not None:
            _, callback, robust = connection.run_on_commit.pop(found)  # type: ignore[misc]  # the stubs do not know robust
            ran += 1
            _run(callback, robust)
    return ran


def _first(connection: Any) -> int | None:
    """Where a class has a transaction around that of each test, what belongs to a test has a savepoint."""
    has_outer = len(connection.atomic_blocks) > 1
    waiting = enumerate(connection.run_on_commit)
    return next((index for index, (savepoints, *_) in waiting if savepoints or not has_outer), None)


def _run(callback: Any, robust: bool) -> None:
    try:
        callback()
    except Exception:
        if not robust:
            raise
        logger.exception("%r failed after the commit", callback)
