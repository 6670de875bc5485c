"""Uploads and photographs as the page shows them: plain values, ready for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Count, Prefetch
from django.urls import reverse

from koan_django.core.functions import Now
from koan_django.media.models import Derivation
from koan_django.messaging.models import DeadLetter, MessageEvent

from .models import Photo, Tally, Upload
from .recipes import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION_LENGTH = 16
LIMIT = 200


def tiles() -> list[dict[str, Any]]:
    """Return the newest uploads with their renditions: a fixed number of queries for any number of photographs."""
    renditions = Prefetch("photo__derivatives", queryset=Photo.objects.made().order_by("id"))
    uploads = list(Upload.objects.select_related("photo").prefetch_related(renditions).order_by("-id")[:LIMIT])
    messages = [upload.message_id for upload in uploads]
    retried, dead = _retried(messages), _dead(messages)
    at_work = _at_work([str(upload.photo.pk) for upload in uploads if _photo(upload) is not None])
    return [{**_tile(upload, retried, at_work), "dead": upload.message_id in dead} for upload in uploads]


def _tile(upload: Upload, retried: dict[str, int], at_work: dict[str, list[str]]) -> dict[str, Any]:
    photo = _photo(upload)
    made = {} if photo is None else {each.relationship: rendition_url(each) for each in photo.derivatives.all()}
    return {
        "id": str(upload.public_id),
        "name": upload.name,
        "state": upload.state,
        "stage": upload.stage,
        "reason": upload.reason,
        "retried": retried.get(upload.message_id, 0),
        "renditions": {name: made.get(name) for name in PUBLISHED},
        "rendering": at_work.get(str(photo.pk), []) if photo else [],
        "archived": bool(photo and photo.archived_at),
        "width": photo.width if photo else None,
        "height": photo.height if photo else None,
        "url": reverse("gallery:photo", args=[upload.public_id]),
    }


def rendition_url(rendition: Photo) -> str:
    """Return the public address of a rendition; it changes with the bytes."""
    name = f"{rendition.relationship}.{rendition.format}"
    return reverse("gallery:rendition", args=[rendition.public_id, rendition.sha256[:VERSION_LENGTH], name])


def summary() -> dict[str, int]:
    """Count all uploads by what became of them, and in ``doubled`` whatever was made or counted more than once."""
    counted = Tally.objects.filter(name="published").values_list("count", flat=True).first() or 0
    # Read after the tally: a photograph that is published in between must not look doubled.
    states = dict(Upload.objects.order_by().values_list("state").annotate(Count("id")))
    archived = Photo.objects.originals().filter(archived_at__isnull=False).count()
    return {
        **{state: states.get(state, 0) for state in Upload.State.values},
        "archived": archived,
        "doubled": max(0, counted - states.get(Upload.State.PUBLISHED, 0)) + _made_twice(),
    }


def in_flight() -> list[str]:
    """Return the ids of the uploads that the worker is to bring to their end; a dead letter waits for a person."""
    dead = DeadLetter.objects.dead().values("message_id")
    waiting = Upload.objects.filter(state=Upload.State.WAITING).exclude(message_id__in=dead)
    return [str(each) for each in waiting.values_list("public_id", flat=True)]


def _made_twice() -> int:
    """Count the pairs of photograph and recipe that have more than one rendition."""
    pairs = Photo.objects.made().order_by().values("source_id", "relationship")
    return pairs.annotate(rows=Count("id")).filter(rows__gt=1).count()


def _retried(message_ids: Iterable[str]) -> dict[str, int]:
    events = MessageEvent.objects.filter(kind="retried", message_id__in=list(message_ids))
    return dict(events.values_list("message_id").annotate(Count("id")))


def _dead(message_ids: Iterable[str]) -> set[str]:
    return set(DeadLetter.objects.dead().filter(message_id__in=list(message_ids)).values_list("message_id", flat=True))


def _at_work(photo_pks: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rows = Derivation.objects.filter(asset=Photo._meta.label_lower, source_pk__in=list(photo_pks), state="rendering")
    rows = rows.filter(lease_until__gt=Now())  # a killed worker's rows say so for longer
    for pk, recipe in rows.values_list("source_pk", "recipe"):
        found.setdefault(pk, []).append(recipe)
    return found


def _photo(upload: Upload) -> Photo | None:
    return getattr(upload, "photo", None)
