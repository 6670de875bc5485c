"""What was heard and is not believed: it is left out, counted, and told without a word of what it said."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from datetime import timedelta

from koan_django.core import clock
from koan_django.core.telemetry import emit

logger = logging.getLogger(__name__)

#: How often the log tells of it, however much there is.
EVERY_SECONDS = 10.0
#: How long health tells of it.
TOLD = timedelta(minutes=15)


class RefusedError(Exception):
    """Something that was heard is not believed. Its text is one word that says why."""


class Refusals:
    """Counts what ``where`` has not believed."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._told_at = self._last_at = float("-inf")

    def add(self, reason: str) -> None:
        """Count one; the log tells of it, but not of each."""
        emit("inbox.discovery_refused", where=self._where, reason=reason)
        with self._lock:
            self._counts[reason] += 1
            now = self._last_at = clock.monotonic()
            if now - self._told_at < EVERY_SECONDS:
                return
            self._told_at, text = now, self.text
        logger.warning("Discovery (%s) does not believe what it hears: %s", self._where, text)

    @property
    def are_recent(self) -> bool:
        """Whether health is to tell of them."""
        return clock.monotonic() - self._last_at < TOLD.total_seconds()

    @property
    def total(self) -> int:
        """How many there were."""
        return self._counts.total()

    @property
    def text(self) -> str:
        """How many there were for which reasons; empty for none."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self._counts.items()))
