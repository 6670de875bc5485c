"""The options of ``KOAN["CORE"]["AUDIT"]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What is recorded, and how it is sealed and kept.

    ``exclude`` holds patterns of actions that are not recorded (``secrets.*``). ``key`` and ``old_keys`` are texts or
    secret references; with a key only its holder can seal. Without a ``retention`` events are kept for ever.
    """

    exclude: tuple[str, ...] = ()
    requests: bool = True
    access_interval: timedelta = timedelta(minutes=10)
    key: str = field(default="", repr=False)
    old_keys: tuple[str, ...] = field(default=(), repr=False)
    batch: int = 1000
    retention: timedelta | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 10_000:
            raise ValueError("BATCH must be between 1 and 10000")
        if self.access_interval < timedelta(seconds=1):
            raise ValueError("ACCESS_INTERVAL must be at least 1 s")
        if self.retention is not None and self.retention < timedelta(days=1):
            raise ValueError("RETENTION must be at least 1 d, or None to keep events for ever")
