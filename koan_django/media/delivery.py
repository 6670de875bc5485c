"""The answer to a request for a picture (RFC 9110).

Everything but the bytes comes from the row: a 304 and a HEAD touch no storage. The content type is that of the format
which was found in the bytes; what browsers would run is never among them, and is sent as an attachment if it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import FileResponse, Http404, HttpResponse
from django.utils.http import content_disposition_header, http_date

from koan_django.storage import ObjectNotFoundError

from . import conditions
from .formats import FORMATS
from .naming import named
from .ranges import ByteRange, UnsatisfiableError, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from .assets import MediaAsset

UNKNOWN_TYPE = "application/octet-stream"
_SAFETY: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: What a cache may update of what it has (15.4.5).
_OF_NOT_MODIFIED = ("Cache-Control", "ETag", "Last-Modified", *_SAFETY)
#: It says nothing about the address without that range: with a lifetime, a cache could answer others with it.
_OF_UNSATISFIABLE = {"Accept-Ranges": "bytes", "Cache-Control": "no-store", **_SAFETY}


def deliver(request: HttpRequest, asset: MediaAsset, *, cache_control: str) -> HttpResponseBase:
    """Return 200 with the bytes, 206 with some of them, 304, 412 or 416; raises ``Http404`` when they are gone."""
    headers = _headers(asset, cache_control, as_attachment="download" in request.GET)
    answer = conditions.evaluate(request.headers, headers["ETag"], _modified(asset))
    if answer == "failed":
        return HttpResponse(status=412)
    if answer == "not modified":
        return HttpResponse(status=304, headers={name: headers[name] for name in _OF_NOT_MODIFIED})
    try:
        part = _range(request, asset, headers["ETag"])
    except UnsatisfiableError:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{asset.size}", **_OF_UNSATISFIABLE})
    if request.method == "HEAD":
        return HttpResponse(headers={**headers, "Content-Length": str(asset.size)})
    return _streamed(asset, headers, part)


def _headers(asset: MediaAsset, cache_control: str, *, as_attachment: bool) -> dict[str, str]:
    known = FORMATS.get(asset.format)
    name = named(asset.original_name, asset.format)
    disposition = content_disposition_header(as_attachment or known is None, name)
    return {
        "Content-Type": known.mime if known else UNKNOWN_TYPE,
        "Content-Disposition": disposition or "inline",
        "ETag": f'"sha256-{asset.sha256}"',
        "Last-Modified": http_date(_modified(asset)),
        "Cache-Control": cache_control,
        "Accept-Ranges": "bytes",
        **_SAFETY,
    }


def _range(request: HttpRequest, asset: MediaAsset, etag: str) -> ByteRange | None:
    """Only a GET has a range (14.2), and an If-Range that does not hold asks for the whole."""
    asked = request.headers.get("Range")
    if request.method != "GET" or not asked or not conditions.wants_part(request.headers, etag, _modified(asset)):
        return None
    return parse(asked, asset.size)


def _modified(asset: MediaAsset) -> int:
    """The second in which the bytes were stored."""
    return int(asset.stored_at.timestamp())


def _streamed(asset: MediaAsset, headers: Mapping[str, str], part: ByteRange | None) -> FileResponse:
    try:
        stream = asset.open() if part is None else asset.open_range(part.start, part.end)
    except ObjectNotFoundError as error:
        raise Http404(str(error)) from error
    response = FileResponse(stream, status=200 if part is None else 206)
    for name, value in headers.items():
        response.headers[name] = value
    response.headers["Content-Length"] = str(asset.size if part is None else len(part))
    if part is not None:
        response.headers["Content-Range"] = f"bytes {part.start}-{part.end}/{asset.size}"
    return response
