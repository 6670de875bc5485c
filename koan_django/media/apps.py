"""App configuration of media."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from koan_django.core.appconfig import KoanAppConfig


class MediaConfig(KoanAppConfig):
    default = True
    name = "koan_django.media"
    label = "koan_media"
    verbose_name = _("Koan media")
    discovers = ("recipes",)
    stands_on = ("koan_django.core", "koan_django.storage")
    needs = ("PIL",)

    def ready(self) -> None:
        from . import checks, panels, tasks, trail  # noqa: F401  # all but the checks register themselves

        super().ready()
        checks.register_all()
