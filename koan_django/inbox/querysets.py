"""Verbs of inbox entries."""

from __future__ import annotations

from collections import Counter
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

    def unfinished(self) -> InboxQuerySet:
        """Work that somebody has begun, whether it is being done or was given up."""
        return self.filter(state="processing", processed_at__isnull=True)

    def expired(self, before: datetime) -> InboxQuerySet:
        """Work that was done before ``before``, or given up: a duplicate of it is not expected any more."""
        given_up = self.free().filter(state="processing", first_seen_at__lt=before)
        return self.processed().filter(processed_at__lt=before) | given_up

    def finish_abandoned(self, fingerprints: Iterable[str], claim: str, now: datetime) -> int:
        """Claim work that was begun under a lease and never finished, as by a handler that was not atomic then."""
        abandoned = self.free().filter(fingerprint__in=list(fingerprints), state="processing")
        return abandoned.update(
            state="processed",
            claim=claim,
            processed_at=now,
            lease_token=F("lease_token") + 1,
            attempts=F("attempts") + 1,
        )

    def count_duplicates(self, fingerprints: Iterable[str]) -> None:
        """Note that these came once more, as often as each is named: mostly once, in one statement."""
        by_times: dict[int, list[str]] = {}
        for fingerprint, times in Counter(fingerprints).items():
            by_times.setdefault(times, []).append(fingerprint)
        for times, same in by_times.items():
            self.filter(fingerprint__in=same).update(duplicates=F("duplicates") + times)
