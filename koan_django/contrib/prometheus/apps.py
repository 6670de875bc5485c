"""App configuration of the Prometheus bridge."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PrometheusConfig(AppConfig):
    """Counts and times from when the project is ready."""

    name = "koan_django.contrib.prometheus"
    label = "koan_prometheus"
    verbose_name = _("Koan metrics")

    def ready(self) -> None:
        from prometheus_client import REGISTRY

        from koan_django.core import telemetry

        from .gauges import Gauges
        from .metrics import Metrics

        telemetry.subscribe(Metrics())
        REGISTRY.register(Gauges())
