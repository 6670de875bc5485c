"""App configuration of the OpenTelemetry bridge."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OpenTelemetryConfig(AppConfig):
    """Traces from when the project is ready."""

    name = "koan_django.contrib.opentelemetry"
    label = "koan_opentelemetry"
    verbose_name = _("Koan traces")

    def ready(self) -> None:
        from .tracing import Tracing

        Tracing().install()
