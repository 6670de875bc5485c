"""When to try again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how far apart attempts are made.

    ``max_attempts`` counts the first one. The delay before attempt *n* is ``first_delay * factor ** (n - 2)``, at most
    ``max_delay``. Jitter only lengthens a delay, so that a rate limit is never hit early.
    """

    max_attempts: int = 5
    first_delay: timedelta = timedelta(seconds=3)
    factor: float = 2.0
    max_delay: timedelta = timedelta(seconds=60)
    backoff: Literal["fixed", "exponential"] = "exponential"
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("MAX_ATTEMPTS must be at least 1")
        if self.first_delay <= timedelta(0) or self.max_delay < self.first_delay:
            raise ValueError("FIRST_DELAY must be more than 0 and not more than MAX_DELAY")
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError("FACTOR must be at least 1 and JITTER between 0 and 1")

    def allows(self, attempt: int) -> bool:
        """Whether attempt number ``attempt`` (from 1) may still be made."""
        return attempt <= self.max_attempts

    def delay(self, attempt: int) -> timedelta:
        """Return the wait before attempt number ``attempt`` (2 or more), without jitter."""
        if self.backoff == "fixed":
            return self.first_delay
        try:
            grown = self.first_delay.total_seconds() * self.factor ** (max(attempt, 2) - 2)
        except OverflowError:  # beyond what a float can hold, hence beyond any limit
            return self.max_delay
        return min(self.max_delay, timedelta(seconds=min(grown, self.max_delay.total_seconds())))

    def jittered(self, attempt: int) -> timedelta:
        """Return :meth:`delay` lengthened by up to ``jitter`` of itself."""
        return self.delay(attempt) * (1 + random.random() * self.jitter)  # noqa: S311  # spreads load, hides nothing

    def steps(self) -> list[timedelta]:
        """Return the distinct delays, shortest first: a broker needs one queue for each."""
        return sorted({self.delay(attempt) for attempt in range(2, max(self.max_attempts, 2) + 1)})
