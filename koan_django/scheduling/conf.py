"""The options of scheduled tasks: ``KOAN["SCHEDULING"]``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from koan_django.core.conf import section


@dataclass(frozen=True, slots=True)
class SchedulingOptions:
    """``lease``: how long a run counts as alive without a heartbeat. ``retention``: how long its record is kept."""

    lease: timedelta = timedelta(seconds=30)
    retention: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        if self.lease < timedelta(seconds=1):
            raise ValueError("LEASE must be at least 1 second")
        if self.retention < timedelta(hours=1):
            raise ValueError("RETENTION must be at least 1 hour")


options = section("SCHEDULING", SchedulingOptions)
