"""The section ``KOAN["INBOX"]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from koan_django.core.conf import section

from .discovery.options import DiscoveryOptions
from .service.options import ServiceOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxOptions:
    """``retention`` must exceed the age at which a message may still come a second time.

    ``store`` is the name of one or the dotted path of its class, ``options`` are what that class takes.
    """

    store: str = "database"
    options: Mapping[str, Any] = field(default_factory=dict)
    #: What to do while the store does not answer: handle it later, or without knowing whether it was handled.
    unavailable: Literal["raise", "process"] = "raise"
    retention: timedelta = timedelta(days=7)
    lease: timedelta = timedelta(seconds=60)
    #: What others may ask of this inbox over HTTP.
    service: ServiceOptions = field(default_factory=ServiceOptions)
    #: How a service is found by its name.
    discovery: DiscoveryOptions = field(default_factory=DiscoveryOptions)

    def __post_init__(self) -> None:
        if not timedelta(days=1) <= self.retention <= timedelta(days=30):
            raise ValueError("RETENTION must be between 1 and 30 days")
        if not timedelta(seconds=5) <= self.lease <= timedelta(seconds=120):
            raise ValueError("LEASE must be between 5 and 120 s; it is renewed while the handler runs")


options = section("INBOX", InboxOptions)
