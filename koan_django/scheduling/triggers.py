"""When a task is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from .cron import Cron
from .exceptions import DeclarationError

#: Beat looks at the rows twice a second, so a shorter interval would not hold.
SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=3660)
#: A task is overdue when it waits this many of its intervals longer than planned, and never within a few seconds.
OVERDUE_INTERVALS = 3
OVERDUE_AT_LEAST = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, init=False)
class Every:
    """A fixed delay, measured from the end of one run to the start of the next, so runs never pile up.

    The first run comes one interval after the task first appeared. Raises :class:`DeclarationError` for less than a
    second or more than ten years.
    """

    interval: timedelta

    def __init__(
        self, *, weeks: float = 0, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        interval = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        if not SHORTEST <= interval <= LONGEST:
            raise DeclarationError(
                f"Every({interval}) cannot be scheduled",
                why=f"an interval is between {SHORTEST.total_seconds():g} s and {LONGEST.days} days",
                fix="Choose another interval.",
            )
        object.__setattr__(self, "interval", interval)

    @property
    def patience(self) -> timedelta:
        """How much later than planned is overdue."""
        return max(OVERDUE_INTERVALS * self.interval, OVERDUE_AT_LEAST)

    def following(self, moment: datetime) -> datetime:
        """Return when the task is due again, after a run that ended at ``moment``."""
        return moment + self.interval

    def problem(self) -> str:
        """Nothing: what is wrong is refused when it is written."""
        return ""

    def __str__(self) -> str:
        return f"every {readable(self.interval)}"


Trigger: TypeAlias = Every | Cron


def readable(interval: timedelta) -> str:
    """Return ``interval`` as people write it: ``1 h 30 min``."""
    seconds = interval.total_seconds()
    words = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count:g} {unit}")
    if seconds or not words:
        words.append(f"{seconds:g} s")
    return " ".join(words)
