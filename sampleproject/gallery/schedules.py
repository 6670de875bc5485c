"""What happens by itself."""

from __future__ import annotations

from django.utils import timezone

from koan_django.scheduling import Every, Run, scheduled

from .models import Photo

BATCH = 50


@scheduled(Every(seconds=5), name="gallery.archive", timeout=120)
def archive(run: Run) -> None:
    """Move the originals of published photographs to the profile ``cold``; what is shown stays on ``hot``."""
    waiting = Photo.objects.originals().filter(published_at__isnull=False, archived_at__isnull=True)
    photos = list(waiting.order_by("id")[:BATCH])
    for done, photo in enumerate(photos, start=1):
        run.raise_if_cancelled()
        photo.move_to_profile("cold")
        Photo.objects.filter(pk=photo.pk).update(archived_at=timezone.now(), archive_run=run.id)
        run.progress(done, len(photos), photo.original_name)
    run.result(archived=len(photos))
