"""App configuration of scheduling."""

from __future__ import annotations

from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

from koan_django.core.appconfig import KoanAppConfig


class SchedulingConfig(KoanAppConfig):
    default = True
    name = "koan_django.scheduling"
    label = "koan_scheduling"
    verbose_name = _("Koan scheduling")
    discovers = ("schedules", "tasks")
    needs = ("cronsim",)

    def ready(self) -> None:
        from . import (  # noqa: F401  # some register themselves
            checks,
            choices,
            condition,
            examinations,
            panels,
            tasks,
            trail,
        )
        from .declarations import settle
        from .signals import after_migrate

        super().ready()
        settle()
        checks.register_all()
        post_migrate.connect(after_migrate, sender=self, dispatch_uid="koan_scheduling.after_migrate")
