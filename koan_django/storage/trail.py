"""What storage tells of a story: the objects that wait to be removed. What was done is in the audit."""

from __future__ import annotations

from koan_django.core.trail import Source, Step, source

from .models import Tombstone


def _step(row: Tombstone) -> Step:
    return Step(
        at=row.created_at,
        kind="storage",
        title=f"{row} waits to be removed",
        state="failed" if row.last_error else "pending",
        detail=row.last_error or row.origin,
        attempt=row.attempts or None,
        troubled=bool(row.last_error),
    )


source(
    "koan_storage.tombstones",
    Source(
        Tombstone,
        lambda correlation_id: Tombstone.objects.filter(correlation_id=correlation_id),
        _step,
        at="created_at",
        identifiers=("key",),
    ),
)
