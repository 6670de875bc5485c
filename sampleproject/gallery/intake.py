"""From a file that arrived to a photograph, or to a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from koan_django.core import correlation

from . import facts
from .messages import PhotoUploaded
from .models import Photo, Upload

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User
    from django.core.files import File

    from koan_django.media.exceptions import RefusedError


def accept(file: File[bytes], user: User | AnonymousUser | None = None) -> Upload:
    """Store a file and announce it. Nothing is decoded here: a request must not pay for a hostile picture."""
    with transaction.atomic():
        upload = Upload(
            file=file,
            name=(file.name or "unnamed")[-255:],
            received=file.size,
            user=user if user is not None and user.is_authenticated else None,
            correlation_id=correlation.current() or "",
        )
        upload.save()
        receipt = PhotoUploaded(upload_id=upload.pk).send()
        upload.message_id = receipt.id
        upload.correlation_id = upload.correlation_id or receipt.id
        upload.save(update_fields=["message_id", "correlation_id"])
    return upload


def photograph(upload: Upload) -> Photo:
    """Return the photograph of ``upload``; make it if it is not there yet.

    Raises :class:`~koan_django.media.exceptions.RefusedError` for what is no acceptable picture.
    """
    existing = Photo.objects.filter(upload=upload).first()
    if existing is not None:
        return existing
    photo = Photo.objects.adopt(upload, upload=upload, original_name=upload.name)
    with photo.open() as stream:
        photo.facts = facts.read(stream)
    photo.save(update_fields=["facts"])
    return photo


def refuse(upload: Upload, error: RefusedError) -> None:
    """Settle ``upload`` as refused: the reason stays, its bytes and what was made of them go."""
    with transaction.atomic():
        for photo in Photo.objects.filter(upload=upload):
            photo.delete()
        _settle(upload, Upload.State.REFUSED, stage=error.stage, reason=error.reason)


def publish(upload: Upload) -> bool:
    """Settle ``upload`` as published, once; its bytes go, the photograph has its own."""
    return _settle(upload, Upload.State.PUBLISHED)


def _settle(upload: Upload, state: str, **columns: str) -> bool:
    """Move ``upload`` out of ``waiting``, once; its bytes go by tombstone with the transaction."""
    waiting = Upload.objects.filter(pk=upload.pk, state=Upload.State.WAITING)
    settled = bool(waiting.update(state=state, settled_at=timezone.now(), **columns))
    if settled:
        upload.refresh_from_db()
        upload.file.delete()
    return settled
