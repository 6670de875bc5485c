"""The store in the memory of one process: for tests, and for a project that is one process."""

from __future__ import annotations

import itertools
import math
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from koan_django.core import clock
from koan_django.core.exceptions import StoreUnavailableError
from koan_django.inbox.conf import options as inbox

from .base import Begun, Figures, Lease, Seen, overtaken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from koan_django.inbox.scopes import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """``max_entries``: beyond it the oldest that are processed are forgotten before their time."""

    max_entries: int = 100_000

    def __post_init__(self) -> None:
        if self.max_entries < 1:
            raise ValueError("MAX_ENTRIES must be at least 1")


@dataclass(slots=True)
class _Entry:
    """Work that is under a lease until ``ends``, or processed. Times are those of a clock that never jumps."""

    token: int
    ends: float
    forgotten_at: float
    processed: bool = False


class MemoryStore:
    """A dict, the oldest first. What it remembers ends with the process."""

    schema: ClassVar[type] = MemoryOptions

    def __init__(self, options: MemoryOptions) -> None:
        self.options = options
        self._entries: dict[str, _Entry] = {}
        self._duplicates: Counter[str] = Counter()
        self._tokens = itertools.count(1)
        self._lock = threading.Lock()

    def objections(self) -> Iterable[str]:
        """Nothing that the options do not say themselves."""
        return ()

    def probe(self) -> None:
        """It is always there."""

    def commits_with(self, using: str) -> bool:
        """No database knows of it."""
        return False

    def look(self, scope: Scope) -> Seen:
        with self._lock:
            self._forget()
            entry = self._entries.get(scope.fingerprint)
            if entry is None:
                return Seen("unknown")
            held = entry.ends > clock.monotonic()
            return Seen("processed" if entry.processed else "processing", entry.token, held)

    def begin(self, scopes: Sequence[Scope], ttl: timedelta) -> list[Begun]:
        with self._lock:
            return [self._begin(scope, ttl) for scope in scopes]

    def renew(self, leases: Sequence[Lease]) -> None:
        with self._lock:
            now = clock.monotonic()
            for lease in leases:
                entry = self._mine_under(lease)
                if entry is None or entry.ends <= now:
                    raise overtaken()
                entry.ends = now + lease.ttl.total_seconds()

    def finish(self, leases: Sequence[Lease]) -> None:
        with self._lock:
            lost = False
            for lease in leases:
                entry = self._mine_under(lease)
                if entry is None:
                    lost = True
                else:
                    self._keep(lease.fingerprint, _Entry(entry.token, -math.inf, _forgotten_at(), processed=True))
        if lost:
            raise overtaken()

    def release(self, leases: Sequence[Lease]) -> None:
        with self._lock:
            for lease in leases:
                entry = self._mine_under(lease)
                if entry is not None:
                    entry.ends = -math.inf

    def count_duplicates(self, scopes: Sequence[Scope]) -> None:
        with self._lock:
            self._duplicates.update(scope.handler for scope in scopes)

    def figures(self) -> Figures:
        with self._lock:
            self._forget()
            processed = sum(entry.processed for entry in self._entries.values())
            return Figures(processed, len(self._entries) - processed, dict(sorted(self._duplicates.items())))

    def _begin(self, scope: Scope, ttl: timedelta) -> Begun:
        self._forget()
        now, entry = clock.monotonic(), self._entries.get(scope.fingerprint)
        if entry is not None and entry.processed:
            self._duplicates[scope.handler] += 1
            return Begun("processed")
        if entry is not None and entry.ends > now:
            return Begun("busy")
        if entry is None:
            self._make_room(now)
        token = next(self._tokens)
        self._keep(scope.fingerprint, _Entry(token, now + ttl.total_seconds(), _forgotten_at()))
        return Begun("acquired", Lease(scope.fingerprint, token, ttl))

    def _mine_under(self, lease: Lease) -> _Entry | None:
        entry = self._entries.get(lease.fingerprint)
        return entry if entry is not None and entry.token == lease.token and not entry.processed else None

    def _keep(self, fingerprint: str, entry: _Entry) -> None:
        """Put it behind all others: they are forgotten in this order."""
        self._entries.pop(fingerprint, None)
        self._entries[fingerprint] = entry

    def _forget(self) -> None:
        """Drop what is older than the retention and not being worked on."""
        now = clock.monotonic()
        old = itertools.takewhile(lambda pair: pair[1].forgotten_at <= now, self._entries.items())
        for fingerprint in [fingerprint for fingerprint, entry in old if entry.ends <= now]:
            del self._entries[fingerprint]

    def _make_room(self, now: float) -> None:
        if len(self._entries) < self.options.max_entries:
            return
        idle = (fingerprint for fingerprint, entry in self._entries.items() if entry.ends <= now)
        oldest = next(idle, None)
        if oldest is None:
            raise StoreUnavailableError(
                "the inbox in memory is full",
                why=f"all of its {self.options.max_entries} entries are being worked on",
                fix="Raise MAX_ENTRIES in KOAN['INBOX']['OPTIONS'].",
            )
        del self._entries[oldest]


def _forgotten_at() -> float:
    return clock.monotonic() + inbox().retention.total_seconds()
