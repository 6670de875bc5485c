"""The answer to a request for a picture (RFC 9110).

Everything but the bytes comes from the row: a 304 and a HEAD touch no storage. The content type is that of the format
which was found in the bytes; what browsers would run is never among them, and is sent as an attachment if it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import FileResponse, Http404, HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, http_date, parse_http_date_safe

from koan_django.storage import ObjectNotFoundError

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


def deliver(request: HttpRequest, asset: MediaAsset, *, cache_control: str) -> HttpResponseBase:
    """Return 200 with the bytes, 206 with some of them, 304, 412 or 416; raises ``Http404`` when they are gone."""
    headers = _headers(asset, cache_control, as_attachment="download" in request.GET)
    whole = HttpResponse(headers=headers)
    modified = int(asset.stored_at.timestamp())
    conditional = get_conditional_response(request, headers["ETag"], modified, whole)
    if conditional is not whole:
        return conditional or whole
    try:
        part = _range(request, headers, asset.size)
    except UnsatisfiableError:
        return HttpResponse(status=416, headers={**headers, "Content-Range": f"bytes */{asset.size}"})
    if request.method == "HEAD":
        whole.headers["Content-Length"] = str(asset.size)
        return whole
    return _streamed(asset, headers, part)


def _headers(asset: MediaAsset, cache_control: str, *, as_attachment: bool) -> dict[str, str]:
    known = FORMATS.get(asset.format)
    name = named(asset.original_name, asset.format)
    disposition = content_disposition_header(as_attachment or known is None, name)
    return {
        "Content-Type": known.mime if known else UNKNOWN_TYPE,
        "Content-Disposition": disposition or "inline",
        "ETag": f'"sha256-{asset.sha256}"',
        "Last-Modified": http_date(asset.stored_at.timestamp()),
        "Cache-Control": cache_control,
        "Accept-Ranges": "bytes",
        **_SAFETY,
    }


def _range(request: HttpRequest, headers: Mapping[str, str], size: int) -> ByteRange | None:
    """A HEAD has no range, and an If-Range that does not hold asks for the whole."""
    asked = request.headers.get("Range")
    if request.method != "GET" or not asked or not _if_range(request, headers):
        return None
    return parse(asked, size)


def _if_range(request: HttpRequest, headers: Mapping[str, str]) -> bool:
    given = request.headers.get("If-Range")
    if not given or given == headers["ETag"]:
        return True
    when = parse_http_date_safe(given)
    return when is not None and when == parse_http_date_safe(headers["Last-Modified"])


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
