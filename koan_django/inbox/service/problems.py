"""Errors of the service as JSON (RFC 9457, problem details)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from django.http import JsonResponse

from koan_django.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is no success. ``code`` is one word for programs, ``detail`` a sentence for people."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> JsonResponse:
        """Return it as a response."""
        body = {
            "type": f"urn:koan:inbox:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": redact_text(self.detail),
        }
        response = JsonResponse(body, status=self.status, content_type=MEDIA_TYPE, headers=self.headers)
        # The event inbox.refused and the log of the service say it already; Django would once more, with the address.
        response._has_been_logged = True  # type: ignore[attr-defined]  # Django's own mark
        return response
