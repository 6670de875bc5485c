"""The base of every app's configuration."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from .extras import naming_extra


class KoanAppConfig(AppConfig):
    """Base of the apps: a missing core is a check error, and the named modules of all apps are imported."""

    default = False
    default_auto_field = "django.db.models.BigAutoField"
    #: Modules that this app imports from every installed app, in this order.
    discovers: tuple[str, ...] = ()
    #: Apps whose models this one refers to.
    stands_on: tuple[str, ...] = ()

    def import_models(self) -> None:
        """Say what is missing: Django itself would name a model, and Python a module."""
        for app in self.stands_on:
            if not apps.is_installed(app):
                raise ImproperlyConfigured(f"{self.name!r} stands on {app!r}: add that to INSTALLED_APPS, above it.")
        with naming_extra(self.name):
            super().import_models()

    def ready(self) -> None:
        from .checks import check_core

        register(check_core)
        if self.discovers:
            autodiscover_modules(*self.discovers)
