"""Verbs of inbox entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F

from koan_django.core.leases import LeasedQuerySet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from .models import InboxEntry  # noqa: F401  # named in a base class as text


class InboxQuerySet(LeasedQuerySet["InboxEntry"]):
    """What was handled."""

    def processed(self) -> InboxQuerySet:
        """Work that is done."""
        return self.filter(state="processed")

    def expired(self, before: datetime) -> InboxQuerySet:
        """Work that was done before ``before``: a duplicate of it is not expected any more."""
        return self.processed().filter(processed_at__lt=before)

    def count_duplicates(self, fingerprints: Iterable[str]) -> int:
        """Note that these came once more."""
        return self.filter(fingerprint__in=list(fingerprints)).update(duplicates=F("duplicates") + 1)
