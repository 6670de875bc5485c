"""Health over HTTP, for load balancers, orchestrators and people; and what every process has chosen, for staff."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from . import facts, health, process
from .redaction import redact

if TYPE_CHECKING:
    from django.http import HttpRequest


_TYPES = ["text/html", "application/json"]


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


@never_cache
@require_safe
def facts_of_all(request: HttpRequest) -> HttpResponse:
    """What this process and every other one has chosen, and why: a page, or JSON where that is preferred. For staff."""
    if not _is_staff(request):
        raise PermissionDenied
    processes = {**facts.of_all(), process.identity(): list(facts.own())}
    if request.GET.get("format") == "json" or request.get_preferred_type(_TYPES) == "application/json":
        found = {name: [asdict(fact) for fact in each] for name, each in processes.items()}
        return JsonResponse({"process": process.identity(), "facts": found})
    context = {"processes": sorted(processes.items()), "own": process.identity()}
    return TemplateResponse(request, "koan_core/facts.html", context)


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
        return user is not None and user.is_active and user.is_staff
    except DatabaseError:
        return False
