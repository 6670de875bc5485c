"""The pages of the gallery."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from koan_django.core import health
from koan_django.media.conf import options as media_options
from koan_django.media.views import MediaView

from . import facts, intake, presenting, supervision
from . import trail as trails
from .models import Photo, Upload

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest

    from koan_django.media import MediaAsset

#: Files of one request; a browser sends what was dropped in several.
FILES = 50


@require_GET
@ensure_csrf_cookie
def wall(request: HttpRequest) -> HttpResponse:
    """The page with all photographs; it fills itself from :func:`feed`."""
    context = {"supervised": supervision.is_supervised(), "max_bytes": media_options().max_bytes}
    return render(request, "gallery/wall.html", context)


@require_POST
def upload(request: HttpRequest) -> JsonResponse:
    """Take files of the field ``photos``. 202: they are stored and announced, nobody has looked into them yet."""
    files = request.FILES.getlist("photos")
    if not files or len(files) > FILES:
        return JsonResponse({"error": f"Send 1 to {FILES} files in the field 'photos'."}, status=400)
    limit = media_options().max_bytes
    too_large = [file.name for file in files if (file.size or 0) > limit]
    if too_large:
        text = f"{', '.join(map(str, too_large))}: more than {limit:,} bytes. Nothing of this request was stored."
        return JsonResponse({"error": text}, status=413)
    accepted = [intake.accept(file, request.user) for file in files]
    body = [{"id": str(each.public_id), "name": each.name} for each in accepted]
    return JsonResponse({"accepted": body}, status=202)


@require_GET
def feed(request: HttpRequest) -> HttpResponse:
    """Everything the page shows, as JSON; 304 while nothing has changed."""
    body = {
        "photos": presenting.tiles(),
        "summary": presenting.summary(),
        "worker": _worker(),
        "health": health.aggregate().status,
    }
    return _conditional(request, body)


@require_GET
@ensure_csrf_cookie
def photo(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """One photograph: the picture before and after, and its trail."""
    found = get_object_or_404(Upload.objects.select_related("photo"), public_id=public_id)
    return render(request, "gallery/photo.html", {"upload": found, "photo": getattr(found, "photo", None)})


@require_GET
def trail(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """The trail and the comparison of one photograph, as JSON."""
    found = get_object_or_404(Upload, public_id=public_id)
    picture = Photo.objects.filter(upload=found).first()
    body = {
        "name": found.name,
        "state": found.state,
        "stage": found.stage,
        "reason": found.reason,
        "correlation_id": found.correlation_id,
        "steps": [trails.as_json(step, for_staff=_is_staff(request)) for step in trails.steps(found)],
        "comparison": _comparison(request, picture) if picture is not None else None,
    }
    return _conditional(request, body)


@require_POST
def kill_worker(request: HttpRequest) -> JsonResponse:
    """End the worker in mid-flow; only where a supervisor starts it again, as in the demo on this machine."""
    if not supervision.is_supervised():
        raise Http404
    in_flight = presenting.in_flight()
    pid = supervision.kill_worker()
    return JsonResponse({"killed": pid, "in_flight": in_flight}, status=200 if pid else 409)


class Renditions(MediaView):
    """Renditions are for everybody; an original may tell where it was taken, so it is not served here."""

    public = True

    def find(self, model: type[MediaAsset], public_id: UUID) -> MediaAsset:
        found = super().find(model, public_id)
        if found.derivation_key is None:
            raise Http404
        return found


def _is_staff(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_staff)


def _comparison(request: HttpRequest, picture: Photo) -> dict[str, Any] | None:
    """What the file said and what the published picture says, each read from real bytes."""
    made = picture.variants
    web = made.get("web")
    if web is None:
        return None
    before = dict(picture.facts)
    if before.get("position") and not _is_staff(request):
        before["position"] = "hidden"  # what is taken off the published picture is not told to visitors here either
    with web.open() as stream:
        after = facts.read(stream)
    asked = made.get("before") or picture.ensure_derivation("before")
    return {
        "before": {**before, "bytes": picture.size, "picture": presenting.rendition_url(asked) if asked else None},
        "after": {**after, "bytes": web.size, "picture": presenting.rendition_url(web)},
    }


def _worker() -> dict[str, Any]:
    found = supervision.state()
    exits = [each for each in found["exits"] if each["name"] == "worker"]
    return {"pid": found["pids"].get("worker"), "restarts": len(exits), "last_exit": exits[-1] if exits else None}


def _conditional(request: HttpRequest, body: dict[str, Any]) -> HttpResponse:
    text = json.dumps(body, default=str)
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponse(status=304, headers={"ETag": etag, "Cache-Control": "no-cache"})
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    return HttpResponse(text, content_type="application/json", headers=headers)
