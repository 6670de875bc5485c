"""Health over HTTP, for load balancers, orchestrators and people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DatabaseError
from django.http import JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from . import health
from .redaction import redact

if TYPE_CHECKING:
    from django.http import HttpRequest


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers; it touches nothing else, so a dead database restarts nobody."""
    return JsonResponse({"status": "healthy"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when this process can do its work, 503 when a critical probe of its own is unhealthy."""
    return _answer(request, health.ready())


@never_cache
@require_safe
def overall(request: HttpRequest) -> JsonResponse:
    """The facts of all processes together: 503 when the whole is unhealthy."""
    try:
        report = health.aggregate()
    except DatabaseError as error:  # the facts are rows: without the database there is nothing to sum up
        text = f"{type(error).__name__}: {redact(str(error))}"
        report = health.summarise([health.Finding("database", "unhealthy", text, critical=True)])
    return _answer(request, report)


def _answer(request: HttpRequest, report: health.Report) -> JsonResponse:
    body: dict[str, Any] = {"status": report.status}
    if _is_staff(request):
        body["findings"] = [
            {"name": found.name, "status": found.status, "message": found.message, "critical": found.critical}
            for found in report.findings
        ]
    return JsonResponse(body, status=503 if report.status == "unhealthy" else 200)


def _is_staff(request: HttpRequest) -> bool:
    """Whether the findings may be shown; a session that cannot be read is nobody's."""
    user = getattr(request, "user", None)
    try:
        return user is not None and user.is_staff
    except DatabaseError:
        return False
