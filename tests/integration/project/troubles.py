"""What handlers do that they should not."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection


def hang() -> None:
    """Never return."""
    while True:
        time.sleep(1)


def hang_deaf() -> None:
    """Never return, whatever is raised."""
    while True:
        with contextlib.suppress(Exception):
            hang()


def clean_up() -> None:
    """Notice the soft limit, and finish."""
    with contextlib.suppress(SoftTimeLimitExceeded):
        hang()


def fork() -> None:
    """Leave a process behind, which comes back out of the handler as well."""
    os.fork()


def leave() -> None:
    """End the process with no word to anybody, a moment after Celery has learnt who has the batch."""
    time.sleep(0.3)
    os._exit(0)


def exit_politely() -> None:
    """Ask the interpreter to end."""
    sys.exit(3)


_kept: list[bytes] = []


def leak() -> None:
    """Keep what nobody needs."""
    _kept.append(b"x" * 80_000_000)


class _Grumbling:
    def __del__(self) -> None:
        raise RuntimeError("not even when I go")


def grumble() -> None:
    """Raise where nobody can catch it."""
    _Grumbling()


def close_database() -> None:
    """Take the connection away from under the transaction."""
    connection.close()


def start_threads() -> None:
    """Leave threads running that use the database."""
    for _ in range(3):
        threading.Thread(target=_query_for_a_while, daemon=True).start()


def _query_for_a_while() -> None:
    try:
        for _ in range(20):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            time.sleep(0.05)
    finally:
        connection.close()
