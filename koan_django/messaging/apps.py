"""App configuration of messaging."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from koan_django.core.appconfig import KoanAppConfig


class MessagingConfig(KoanAppConfig):
    default = True
    name = "koan_django.messaging"
    label = "koan_messaging"
    verbose_name = _("Koan messaging")
    discovers = ("messages", "handlers")
    needs = ("msgspec",)

    def ready(self) -> None:
        from . import checks, choices, examinations, lifecycle, panels, tasks, trail  # noqa: F401  # some register themselves
        from .statistics import gauges  # noqa: F401  # some register themselves

        super().ready()
        checks.register_all()
