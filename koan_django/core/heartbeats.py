"""Renews a lease on a thread of its own while work goes on."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import TYPE_CHECKING

from django.db import connections

from . import clock
from .bell import Bell
from .context import bind
from .exceptions import LeaseLostError
from .stores.base import STORE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta


class Heartbeat(threading.Thread):
    """Calls ``renew`` at a third of ``ttl``, until it is stopped, ``limit`` has passed or the lease is lost."""

    def __init__(self, renew: Callable[[], None], ttl: timedelta, limit: timedelta | None = None) -> None:
        super().__init__(name="koan-heartbeat", daemon=True)
        self._renew = renew
        self._period = ttl.total_seconds() / 3
        self._end = math.inf if limit is None else clock.monotonic() + limit.total_seconds()
        self._ended = Bell()
        self._lost = threading.Event()
        self._work = bind(self._beat)

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost."""
        return self._lost.is_set()

    def run(self) -> None:
        self._work()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.ring()
        self.join()

    def _beat(self) -> None:
        try:
            while not self._ended.wait(self._period) and clock.monotonic() < self._end:
                try:
                    self._renew()
                except LeaseLostError:
                    self._lost.set()
                    return
                except STORE_ERRORS:
                    continue  # the next beat may succeed; if none does, the lease ends by itself
        finally:
            connections.close_all()


@contextlib.contextmanager
def beating(renew: Callable[[], None], ttl: timedelta, limit: timedelta | None) -> Iterator[Heartbeat]:
    """Renew by a :class:`Heartbeat` until the block ends. The block may ask ``heartbeat.lost``."""
    heartbeat = Heartbeat(renew, ttl, limit)
    heartbeat.start()
    try:
        yield heartbeat
    finally:
        heartbeat.stop()
