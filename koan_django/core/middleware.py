"""Gives each request its correlation id, trace and actor, and its response the id to quote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async

from . import process
from .audit import requests
from .audit.actors import acting_as, of_request
from .context import correlation, new_id, restore

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

HEADER = "X-Correlation-ID"


class ContextMiddleware:
    """Puts ``X-Correlation-ID`` (or a new id) and the trace in force for the request, and answers with the id.

    The request's user is the actor of what is audited meanwhile, and a request that left a record of any app behind is
    recorded itself.

    The headers are taken from the client as they are; where clients are not trusted, let the proxy remove them. Baggage
    is not taken at all: it would travel to whoever receives a message.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if process.role() == process.UNNAMED:
            process.set_role("web")
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._acall(request)
        with restore(_context(request)), acting_as(of_request(request)), requests.footprint() as found:
            visit = requests.Visit(request)
            response = self.get_response(request)
            visit.record(found, response)
            return _signed(response)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with restore(_context(request)), acting_as(of_request(request)), requests.footprint() as found:
            visit = requests.Visit(request)
            response = await self.get_response(request)
            if found.touched:
                await sync_to_async(visit.record)(found, response)
            return _signed(response)


def _context(request: HttpRequest) -> dict[str, str]:
    given = request.headers.get(HEADER, "")
    return {
        "correlation": given if correlation.is_valid(given) else new_id(),
        "traceparent": request.headers.get("traceparent", ""),
        "tracestate": request.headers.get("tracestate", ""),
    }


def _signed(response: HttpResponseBase) -> HttpResponseBase:
    response.headers[HEADER] = correlation.current() or ""
    return response
