"""How often each token may ask."""

from __future__ import annotations

import math
import threading

from koan_django.core import clock

from .problems import Problem


class Bucket:
    """Holds the requests of one second: each takes one out, and they come back at ``rate`` a second."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._left = float(rate)
        self._at = clock.monotonic()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Take one out and return 0, or return for how many seconds there is none."""
        with self._lock:
            now = clock.monotonic()
            self._left = min(self.rate, self._left + (now - self._at) * self.rate)
            self._at = now
            if self._left < 1:
                return (1 - self._left) / self.rate
            self._left -= 1
            return 0.0


_buckets: dict[str, Bucket] = {}


def take(name: str, rate: int) -> None:
    """Count a request of the token called ``name`` in this process; raises :class:`Problem` for one too many."""
    bucket = _buckets.get(name)
    if bucket is None or bucket.rate != rate:
        bucket = _buckets[name] = Bucket(rate)
    wait = bucket.take()
    if wait:
        seconds = {"Retry-After": str(math.ceil(wait))}
        raise Problem(429, "too-many", f"More than {rate} requests a second with this token", seconds)
