"""Who does what when a photograph arrives. Celery's workers run these."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from koan_django.media.exceptions import RefusedError
from koan_django.messaging import handler

from . import intake
from .messages import PhotoDerived, PhotoUploaded
from .models import Photo, Tally, Upload
from .recipes import PUBLISHED


@handler(PhotoUploaded, group="media", name="gallery.derive", atomic=False)
def derive(message: PhotoUploaded) -> None:
    """Inspect the file and render its renditions. A refusal is a result, not a failure."""
    upload = Upload.objects.get(pk=message.upload_id)
    if upload.state != Upload.State.WAITING:
        return
    try:
        photo = intake.photograph(upload)
        photo.derive(*PUBLISHED)
    except RefusedError as error:
        intake.refuse(upload, error)
        return
    with transaction.atomic():
        PhotoDerived(photo_id=photo.pk, upload_id=upload.pk).send()


@handler(PhotoDerived, group="gallery", name="gallery.publish")
def publish(message: PhotoDerived) -> None:
    """Put the photograph on the page and count it: all of it in one transaction with the inbox."""
    upload = Upload.objects.get(pk=message.upload_id)
    if intake.publish(upload):
        Photo.objects.filter(pk=message.photo_id).update(published_at=timezone.now())
    Tally.objects.get_or_create(name="published")
    Tally.objects.filter(name="published").update(count=F("count") + 1)
