"""How an entry of Celery's beat schedule would be declared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


def declaration(schedule: Any) -> str:
    """Return the decorator for ``schedule``: a number of seconds, a timedelta, or one of Celery's own."""
    if isinstance(schedule, int | float):
        return _every(timedelta(seconds=schedule))
    if isinstance(schedule, timedelta):
        return _every(schedule)
    fields = [getattr(schedule, f"_orig_{name}", None) for name in ("minute", "hour")]
    fields += [getattr(schedule, f"_orig_{name}", None) for name in ("day_of_month", "month_of_year", "day_of_week")]
    if None not in fields:
        return f'@scheduled(Cron("{" ".join(_field(each) for each in fields)}"))'
    run_every = getattr(schedule, "run_every", None)
    return _every(run_every) if isinstance(run_every, timedelta) else "@scheduled(...)"


def _every(interval: timedelta) -> str:
    seconds = interval.total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size and seconds % size == 0:
            return f"@scheduled(Every({unit}={seconds / size:g}))"
    return f"@scheduled(Every(seconds={seconds:g}))"


def _field(value: Any) -> str:
    return ",".join(map(str, sorted(value))) if isinstance(value, set | frozenset | list | tuple) else str(value)
