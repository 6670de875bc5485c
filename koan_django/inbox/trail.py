"""What the inbox tells of a story: which work was claimed in it."""

from __future__ import annotations

from koan_django.core.trail import Source, Step, source

from .models import InboxEntry


def _claim(row: InboxEntry) -> Step:
    return Step(
        at=row.first_seen_at,
        kind="inbox",
        title=f"claimed for {row.handler}",
        state=row.state,
        detail=f"key {row.key}" + (f", duplicates left out since: {row.duplicates}" if row.duplicates else ""),
        who=row.lease_owner.rpartition(":")[0],
        attempt=row.attempts if row.attempts > 1 else None,
    )


source(
    "koan_inbox.claims",
    Source(
        InboxEntry,
        lambda correlation_id: InboxEntry.objects.filter(correlation_id=correlation_id),
        _claim,
        at="first_seen_at",
        identifiers=("key",),
    ),
)
