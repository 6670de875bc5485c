"""The base of every app's configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register
from django.utils.module_loading import autodiscover_modules


class KoanAppConfig(AppConfig):
    """Base of the apps: a missing core is a check error, and the named modules of all apps are imported."""

    default = False
    default_auto_field = "django.db.models.BigAutoField"
    #: Modules that this app imports from every installed app, in this order.
    discovers: tuple[str, ...] = ()

    def ready(self) -> None:
        from .checks import check_core

        register(check_core)
        if self.discovers:
            autodiscover_modules(*self.discovers)
