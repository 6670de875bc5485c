"""App configuration of media."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from koan_django.core.appconfig import KoanAppConfig
from koan_django.core.extras import naming_extra


class MediaConfig(KoanAppConfig):
    default = True
    name = "koan_django.media"
    label = "koan_media"
    verbose_name = _("Koan media")
    discovers = ("recipes",)
    stands_on = ("koan_django.storage",)

    def ready(self) -> None:
        with naming_extra(self.name):
            from . import checks, panels, tasks, trail  # noqa: F401  # all but the checks register themselves

        super().ready()
        checks.register_all()
