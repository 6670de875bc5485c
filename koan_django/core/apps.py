"""App configuration of core."""

from __future__ import annotations

from django.core.signals import request_started
from django.utils.translation import gettext_lazy as _

from .appconfig import KoanAppConfig


class CoreConfig(KoanAppConfig):
    default = True
    name = "koan_django.core"
    label = "koan_core"
    verbose_name = _("Koan")

    def ready(self) -> None:
        # Some of these register themselves.
        from . import boot, breaker, checks, choices, examinations, logs, panels, probes, tasks  # noqa: F401
        from .audit import counting, trail  # noqa: F401  # the trail registers itself

        super().ready()
        checks.register_all()
        logs.connect()
        counting.connect()
        request_started.connect(boot.visit, dispatch_uid="koan_django.core.boot")
