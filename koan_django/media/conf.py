"""The section ``KOAN["MEDIA"]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from koan_django.core.conf import section
from koan_django.core.retry import RetryPolicy

from .formats import FormatName

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    """Options of media.

    ``max_pixels`` counts width times height times frames. ``max_edge`` is the longest side, in pixels, of anything
    rendered. ``lease`` is how long a renderer that was killed blocks its picture.
    """

    profile: str | None = None
    max_bytes: int = 100 * MIB
    max_pixels: int = 100_000_000
    max_frames: int = 600
    max_edge: int = 4096
    max_quality: int = 95
    formats: tuple[FormatName, ...] = ("jpeg", "png", "webp", "gif", "avif", "tiff")
    lease: timedelta = timedelta(seconds=30)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    cache: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_frames", "max_edge"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.upper()} must be at least 1")
        if not 1 <= self.max_quality <= 100:
            raise ValueError("MAX_QUALITY must be between 1 and 100")
        if not self.formats:
            raise ValueError("FORMATS must name at least one format")
        if self.lease < timedelta(seconds=1):
            raise ValueError("LEASE must be at least 1 s")


options = section("MEDIA", MediaOptions)
