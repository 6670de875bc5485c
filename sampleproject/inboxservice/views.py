"""Metrics for Prometheus, and what makes the service ready. Let the proxy keep ``metrics`` to your own network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from koan_django.core import health
from koan_django.inbox.stores import configured

if TYPE_CHECKING:
    from django.http import HttpRequest


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus scrapes, of this process."""
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


@health.probe("service.store")
def store() -> None:
    """Other projects go on without their inbox for a moment; this one has nothing else to do."""
    configured().probe()
