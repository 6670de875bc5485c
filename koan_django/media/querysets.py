"""Verbs of derivations; each change of state is one guarded UPDATE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from koan_django.core.audit import touch
from koan_django.core.context import correlation
from koan_django.core.functions import Now
from koan_django.core.leases import LeasedQuerySet

from .labels import label_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from .assets import MediaAsset
    from .models import Derivation  # noqa: F401  # named in the base class below
    from .recipes import Recipe

#: What a new cycle of attempts begins with.
FRESH: Mapping[str, Any] = {
    "state": "pending",
    "attempts": 0,
    "not_before": None,
    "stage": "",
    "reason": "",
    "started_at": None,
    "finished_at": None,
    "duration_ms": None,
}


class DerivationQuerySet(LeasedQuerySet["Derivation"]):
    """Derivations by source and by what they wait for."""

    if TYPE_CHECKING:  # they return what they are called on

        def free(self) -> Self: ...
        def held(self, token: int) -> Self: ...

    def of(self, asset: MediaAsset) -> DerivationQuerySet:
        """Those of one picture."""
        return self.filter(asset=label_of(asset), source_pk=str(asset.pk))

    def open(self) -> DerivationQuerySet:
        """Those that somebody has still to render, or is rendering."""
        return self.filter(state__in=("pending", "rendering"))

    def due(self) -> DerivationQuerySet:
        """Those that nobody is at, and whose time has come: a dead renderer's too, once its lease has ended."""
        waiting = Q(not_before__isnull=True) | Q(not_before__lte=Now())
        return self.open().free().filter(waiting)

    def request(self, asset: MediaAsset, wanted: Mapping[str, Recipe], *, grace: timedelta) -> None:
        """Ask for the variants of ``asset`` by their keys; one that was asked for already stays as it is.

        The sweep leaves them alone for ``grace``: a job, or the caller, takes them up at once.
        """
        touch()
        rows = [
            self.model(
                asset=label_of(asset),
                source_pk=str(asset.pk),
                key=key,
                recipe=recipe.name,
                version=recipe.version,
                not_before=timezone.now() + grace,
                correlation_id=correlation.current() or "",
            )
            for key, recipe in wanted.items()
        ]
        self.bulk_create(rows, ignore_conflicts=True)

    def renew(self) -> int:
        """Begin anew with those that ended, failed or not; return how many there were."""
        return self.filter(state__in=("ready", "failed")).free().update(**FRESH, queued_at=Now())

    def begun(self) -> int:
        """Note the beginning of an attempt; one of a row that was ready, and whose variant is gone, counts anew."""
        again = Case(When(state="ready", then=Value(1)), default=F("attempts") + 1)
        return self.update(
            attempts=again,  # the first: to MySQL and MariaDB an expression tells what those before it have written
            state="rendering",
            not_before=None,
            started_at=Now(),
            finished_at=None,
            stage="",
            reason="",
        )

    def finished(self, **values: Any) -> int:
        """Note that the variant is there, and let go."""
        return self.update(
            state="ready", stage="", reason="", profile="", object_key="", finished_at=Now(), lease_until=None, **values
        )

    def failed(self, reason: str, *, stage: str = "") -> int:
        """Note that no attempt can succeed, and let go."""
        return self.update(state="failed", stage=stage, reason=reason, finished_at=Now(), lease_until=None)

    def postponed(self, reason: str, delay: timedelta) -> int:
        """Note why an attempt came to nothing, let go, and have the next one after ``delay``."""
        return self.update(state="pending", reason=reason, not_before=Now() + delay, lease_until=None)
