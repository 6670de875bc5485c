"""Verbs of storage's own rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F, Q, QuerySet

from koan_django.core.functions import Now

if TYPE_CHECKING:
    from datetime import timedelta

    from .models import StorageProfile, Tombstone  # noqa: F401  # named in the base classes below


class StorageProfileQuerySet(QuerySet["StorageProfile"]):
    """Profiles."""

    def missing(self) -> StorageProfileQuerySet:
        """Profiles that the settings no longer have; objects may still name them."""
        return self.filter(is_configured=False)


class TombstoneQuerySet(QuerySet["Tombstone"]):
    """Objects to remove."""

    def due(self) -> TombstoneQuerySet:
        """Those that may be tried now, by the database's clock."""
        return self.filter(Q(not_before__isnull=True) | Q(not_before__lte=Now()))

    def claim(self, pk: int, lease: timedelta) -> Tombstone | None:
        """Count an attempt and keep others away for ``lease``; ``None`` when it is not due, or gone."""
        if not self.filter(pk=pk).due().update(attempts=F("attempts") + 1, not_before=Now() + lease):
            return None
        return self.filter(pk=pk).first()

    def failed(self, pk: int, error: str, delay: timedelta) -> None:
        """Note why the attempt failed, and try again after ``delay``."""
        self.filter(pk=pk).update(last_error=error, not_before=Now() + delay)
