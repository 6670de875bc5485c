"""The record of an HTTP request that left something behind: where its trail begins.

A request that only read leaves no row. One that sent a message, asked for a derivation, deleted an object or was
audited *touches* something; the middleware then records it with its user, status and duration.
"""

from __future__ import annotations

import contextvars
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koan_django.core.context import tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

logger = logging.getLogger(__name__)

ACTION = "http.request"


@dataclass(slots=True)
class Footprint:
    """Whether the request has left a record, and in the name of which tenant."""

    touched: bool = False
    tenant: str | None = None


_footprint: contextvars.ContextVar[Footprint | None] = contextvars.ContextVar("koan_footprint", default=None)


def touch() -> None:
    """Say that the request at hand leaves a record of some app behind. Outside a request it does nothing."""
    found = _footprint.get()
    if found is not None and not found.touched:
        found.touched = True
        found.tenant = tenant.current()


@contextmanager
def footprint() -> Iterator[Footprint]:
    """Watch one request."""
    found = Footprint()
    token = _footprint.set(found)
    try:
        yield found
    finally:
        _footprint.reset(token)


class Visit:
    """One request on its way through the middleware."""

    def __init__(self, request: HttpRequest) -> None:
        from django.utils import timezone

        self.request = request
        self.began: datetime = timezone.now()
        self._clock = time.perf_counter()

    def record(self, found: Footprint, response: HttpResponseBase) -> None:
        """Write the event if the request left something; a failure is logged, since the deed is done."""
        if not found.touched:
            return
        from django.db import DatabaseError

        from koan_django.core.section import options

        from .recording import Reference, record

        if not options().audit.requests:
            return
        thing = Reference("http", self._route(), f"{self.request.method} {self._route()}")
        try:
            with tenant.use(found.tenant):
                record(ACTION, thing, data=self._data(response), at=self.began)
        except DatabaseError:
            logger.exception("The request %s could not be recorded", thing.text)

    def _route(self) -> str:
        """The pattern of the address: its values and its query may hold tokens."""
        match = self.request.resolver_match
        return f"/{match.route}" if match is not None else "(no such page)"

    def _data(self, response: HttpResponseBase) -> dict[str, Any]:
        match = self.request.resolver_match
        return {
            "method": self.request.method,
            "status": response.status_code,
            "view": match.view_name if match else "",
            "duration_ms": round((time.perf_counter() - self._clock) * 1000, 3),
        }
