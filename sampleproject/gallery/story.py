"""What the gallery tells of a story on the admin's Trail page: the uploads of a request."""

from __future__ import annotations

from koan_django.core.trail import Source, Step, source

from .models import Upload


def _step(upload: Upload) -> Step:
    return Step(
        at=upload.created_at,
        kind="storage",
        title=f"upload of {upload.name}",
        state=upload.state,
        detail=upload.reason or f"{upload.received:,} bytes",
        who=str(upload.user) if upload.user else "",
        troubled=upload.state == Upload.State.REFUSED,
    )


source(
    "gallery.uploads",
    Source(
        model=Upload,
        rows=lambda correlation_id: Upload.objects.filter(correlation_id=correlation_id).select_related("user"),
        step=_step,
        at="created_at",
    ),
)
