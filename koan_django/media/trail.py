"""What media tells of a story: each variant that was asked for in it, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models.functions import Coalesce

from koan_django.core.trail import Source, Step, source

from .models import Derivation, State

if TYPE_CHECKING:
    from django.db.models import QuerySet


def _rows(correlation_id: str) -> QuerySet[Derivation]:
    """At its end, its beginning or its wait, whichever came last."""
    rows = Derivation.objects.filter(correlation_id=correlation_id)
    return rows.annotate(trail_at=Coalesce("finished_at", "started_at", "queued_at"))


def _step(row: Derivation) -> Step:
    made = f"{row.width} by {row.height} pixels, {row.size:,} bytes" if row.size else ""
    return Step(
        at=row.finished_at or row.started_at or row.queued_at,
        kind="media",
        title=f"{row.recipe} of {row.asset} {row.source_pk}",
        state=row.state,
        detail=row.reason or made,
        who=row.lease_owner.rpartition(":")[0],
        duration_ms=row.duration_ms if row.finished_at else None,
        attempt=row.attempts if row.attempts > 1 else None,
        troubled=row.state == State.FAILED,
    )


source("koan_media.derivations", Source(Derivation, _rows, _step, at="trail_at"))
