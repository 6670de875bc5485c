"""Uploads and photographs as the page shows them: plain values, ready for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Count, Prefetch
from django.urls import reverse

from koan_django.media.models import Derivation
from koan_django.messaging.models import MessageEvent

from .models import Photo, Upload
from .recipes import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION_LENGTH = 16
LIMIT = 200


def tiles() -> list[dict[str, Any]]:
    """Return the newest uploads with their renditions: a fixed number of queries for any number of photographs."""
    renditions = Prefetch("photo__derivatives", queryset=Photo.objects.made().order_by("id"))
    uploads = list(Upload.objects.select_related("photo").prefetch_related(renditions).order_by("-id")[:LIMIT])
    retried = _retried([upload.message_id for upload in uploads])
    at_work = _at_work([str(upload.photo.pk) for upload in uploads if _photo(upload) is not None])
    return [_tile(upload, retried, at_work) for upload in uploads]


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


def summary(shown: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the tiles by what became of them."""
    states = [tile["state"] for tile in shown]
    counted = {state: states.count(state) for state in ("waiting", "published", "refused")}
    return {**counted, "archived": sum(tile["archived"] for tile in shown)}


def _retried(message_ids: Iterable[str]) -> dict[str, int]:
    events = MessageEvent.objects.filter(kind="retried", message_id__in=list(message_ids))
    return dict(events.values_list("message_id").annotate(Count("id")))


def _at_work(photo_pks: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rows = Derivation.objects.filter(asset=Photo._meta.label_lower, source_pk__in=list(photo_pks), state="rendering")
    for pk, recipe in rows.values_list("source_pk", "recipe"):
        found.setdefault(pk, []).append(recipe)
    return found


def _photo(upload: Upload) -> Photo | None:
    return getattr(upload, "photo", None)
