"""The section ``KOAN["INBOX"]``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from koan_django.core.conf import section


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxOptions:
    """``retention`` must exceed the age at which a message may still come a second time."""

    store: Literal["database"] = "database"
    retention: timedelta = timedelta(days=7)
    lease: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        if not timedelta(days=1) <= self.retention <= timedelta(days=30):
            raise ValueError("RETENTION must be between 1 and 30 days")
        if not timedelta(seconds=5) <= self.lease <= timedelta(seconds=120):
            raise ValueError("LEASE must be between 5 and 120 s; it is renewed while the handler runs")


options = section("INBOX", InboxOptions)
