"""How the store of the inbox is: the readiness of every process, and health facts of workers."""

from __future__ import annotations

import threading
from datetime import timedelta

from koan_django.core import clock, health, reporter
from koan_django.core.stores import STORE_ERRORS

from .conf import options
from .stores import configured

#: What was done without a claim is told for so long.
TOLD = timedelta(minutes=15)
EVERY_SECONDS = 10.0
_MEANWHILE = {"raise": "nothing is handled until it does", "process": "duplicates are handled meanwhile"}


class _Unclaimed:
    """How much this process has done without a claim, told now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._told_at = -EVERY_SECONDS

    def add(self, count: int) -> str | None:
        """Return what to tell, ``None`` when it was told a moment ago."""
        with self._lock:
            self._count += count
            now = clock.monotonic()
            if now - self._told_at < EVERY_SECONDS:
                return None
            self._told_at = now
            return f"{self._count} pieces of work were done without a claim since this process began"


_unclaimed = _Unclaimed()


def processed_unclaimed(count: int) -> None:
    """Have health say that so much work is done without knowing whether it was done before."""
    text = _unclaimed.add(count)
    if text is not None:
        try:
            health.report("inbox.unclaimed", "degraded", text, ttl=TOLD)
        except STORE_ERRORS:
            return  # the event and the log have it


@health.probe("inbox", critical=False)
def probe() -> health.Finding | None:
    """Degraded when the store does not answer."""
    try:
        configured().probe()
    except STORE_ERRORS as error:
        return health.Finding("inbox", "unhealthy", f"{error} ({_MEANWHILE[options().unavailable]})")
    return None


@reporter.source("inbox")
def fact() -> health.Finding | None:
    """The same as a fact of a process that serves no HTTP."""
    found = probe()
    return None if found is None else health.Finding("inbox.store", "degraded", found.message)
