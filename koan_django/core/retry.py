"""When to try again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how far apart attempts are made.

    ``max_attempts`` counts the first one. ``immediate`` is how many follow it without a delay; the attempts after
    those wait for ``first_delay``, ``first_delay * factor`` and so on, at most for ``max_delay``. Jitter only lengthens
    a delay, so that a rate limit is never hit early.
    """

    max_attempts: int = 5
    immediate: int = 0
    first_delay: timedelta = timedelta(seconds=3)
    factor: float = 2.0
    max_delay: timedelta = timedelta(seconds=60)
    backoff: Literal["fixed", "exponential"] = "exponential"
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("MAX_ATTEMPTS must be at least 1")
        if not 0 <= self.immediate < self.max_attempts:
            raise ValueError("IMMEDIATE must be at least 0 and less than MAX_ATTEMPTS")
        if self.first_delay <= timedelta(0) or self.max_delay < self.first_delay:
            raise ValueError("FIRST_DELAY must be more than 0 and not more than MAX_DELAY")
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError("FACTOR must be at least 1 and JITTER between 0 and 1")

    def allows(self, attempt: int) -> bool:
        """Whether attempt number ``attempt`` (from 1) may still be made."""
        return attempt <= self.max_attempts

    def delay(self, attempt: int) -> timedelta:
        """Return the wait before attempt number ``attempt`` (2 or more), without jitter."""
        delayed = attempt - self.immediate
        if delayed < 2 and attempt >= 2:
            return timedelta(0)
        if self.backoff == "fixed":
            return self.first_delay
        try:
            grown = self.first_delay.total_seconds() * self.factor ** (max(delayed, 2) - 2)
        except OverflowError:  # beyond what a float can hold, hence beyond any limit
            return self.max_delay
        return min(self.max_delay, timedelta(seconds=min(grown, self.max_delay.total_seconds())))

    def jittered(self, attempt: int) -> timedelta:
        """Return :meth:`delay` lengthened by up to ``jitter`` of itself."""
        return self.delay(attempt) * (1 + random.random() * self.jitter)  # noqa: S311  # spreads load, hides nothing

    def steps(self) -> list[timedelta]:
        """Return the distinct delays, shortest first: a broker needs one queue for each."""
        first = self.immediate + 2
        return sorted({self.delay(attempt) for attempt in range(first, max(self.max_attempts, first) + 1)})
