"""Facts too frequent for a row each: they are counted in the process, and a row tells the count once in a while.

Whoever reads a secret a thousand times a second must not write a thousand rows. The first access of each object since
the process began, or since its last row, waits in memory together with the number of those that followed. At a safe
moment (a request, a job, a message has ended; the process ends) what is due is written, at most one row per object and
interval. Nothing here imports Django: settings are read before there is one.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from koan_django.core.context import correlation, tenant
from koan_django.core.telemetry import subscribe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.core.telemetry import Event

    Key = tuple[str, str, str, str]

logger = logging.getLogger(__name__)

#: Objects counted apart; what comes on top is counted together, so that a stranger's names cannot fill the memory.
KEYS = 1000
REST = "(others)"
#: Telemetry events whose end is a safe moment to write.
MOMENTS = ("core.job", "messaging.handle", "scheduling.run")


@dataclass(slots=True)
class Count:
    """Accesses of one object since its last row. The context is that of the first."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0
    correlation: str | None = None
    tenant: str | None = None
    written: float = field(default=0.0)


class Ledger:
    """Counts by (action, kind, id, source)."""

    def __init__(self) -> None:
        self._counts: dict[Key, Count] = {}
        self._lock = threading.Lock()
        self.pending = False

    def note(self, action: str, kind: str, name: str, source: str) -> None:
        """Count one access."""
        now = time.time()
        with self._lock:
            found = self._counts.get((action, kind, name, source)) or self._new((action, kind, name, source))
            if not found.count:
                found.first, found.correlation, found.tenant = now, correlation.current(), tenant.current()
                self.pending = True
            found.count += 1
            found.last = now

    def due(self, interval: timedelta, *, everything: bool = False) -> list[tuple[Key, Count]]:
        """Take out what may be written now: each object once per ``interval``."""
        now = time.time()
        with self._lock:
            taken = [
                (key, Count(each.count, each.first, each.last, each.correlation, each.tenant))
                for key, each in self._counts.items()
                if each.count and (everything or now - each.written >= interval.total_seconds())
            ]
            for key, _count in taken:
                self._counts[key] = Count(written=now)
            self._forget_idle(now - interval.total_seconds())
            self.pending = any(each.count for each in self._counts.values())
        return taken

    def put_back(self, taken: list[tuple[Key, Count]]) -> None:
        """Count again what could not be written."""
        with self._lock:
            for key, lost in taken:
                found = self._counts.get(key, Count())
                lost.count += found.count
                lost.last = max(lost.last, found.last)
                self._counts[key] = lost
            self.pending = self.pending or bool(taken)

    def after_fork(self) -> None:
        """Leave what was counted before to the parent, which tells it."""
        self._lock = threading.Lock()
        self._counts = {}
        self.pending = False

    def _forget_idle(self, before: float) -> None:
        """Make room: what was not accessed for an interval counts as new the next time."""
        for key in [key for key, each in self._counts.items() if not each.count and each.written < before]:
            del self._counts[key]

    def _new(self, key: Key) -> Count:
        if len(self._counts) >= KEYS:
            key = (key[0], key[1], REST, "")
        return self._counts.setdefault(key, Count())


ledger = Ledger()


def note_access(action: str, kind: str, name: str, source: str = "") -> None:
    """Count that the object ``name`` was accessed; rows follow by themselves, at most one per object and interval."""
    ledger.note(action, kind, name, source)


def flush(*, everything: bool = False) -> int:
    """Write what is due, unless a transaction is open here (it might be rolled back); return how many rows."""
    if not ledger.pending:
        return 0
    from django.db import connections, router

    from koan_django.core.section import options

    from .models import AuditEvent
    from .recording import is_excluded

    using = router.db_for_write(AuditEvent)
    if connections[using].in_atomic_block:
        return 0
    taken = ledger.due(options().audit.access_interval, everything=everything)
    try:
        events = [made for key, count in taken if not is_excluded(key[0]) for made in _events(key, count)]
        AuditEvent.objects.using(using).bulk_create(events)
    except Exception:
        ledger.put_back(taken)
        raise
    return len(events)


def flush_safely(**_: Any) -> None:
    """Do as :func:`flush`; a failure is logged, and what was counted is told later."""
    try:
        flush()
    except Exception:
        logger.exception("Accesses could not be recorded; they are counted on")


def flush_at_exit() -> None:
    """Write what is left when the process ends."""
    try:
        flush(everything=True)
    except Exception as error:  # the database may be gone before the process
        logger.debug("Accesses could not be recorded at the end of the process: %s", error)


def connect() -> None:
    """Write what is due whenever a request, a job, a message or a run has ended, and the rest with the process."""
    from django.core.signals import request_finished

    request_finished.connect(flush_safely, dispatch_uid="koan_django.core.audit.counting")
    for name in MOMENTS:
        subscribe(_at_end, name)
    atexit.register(flush_at_exit)


def _at_end(event: Event) -> None:
    if event.phase in ("stop", "exception"):
        flush_safely()


def _events(key: Key, count: Count) -> Iterator[Any]:
    from koan_django.core.process import identity

    from .actors import Actor
    from .recording import Reference, event

    action, kind, name, source = key
    data: dict[str, Any] = {"accesses": count.count, "from": _moment(count.first), "to": _moment(count.last)}
    if source:
        data["source"] = source
    with correlation.use(count.correlation), tenant.use(count.tenant):
        yield event(
            action,
            Reference(kind, name),
            actor=Actor(identity()),
            data=data,
            at=datetime.fromtimestamp(count.first, UTC),
        )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ledger.after_fork)
