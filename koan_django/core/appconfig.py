"""The base of every app's configuration."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from .extras import naming_extra


class KoanAppConfig(AppConfig):
    """Base of the apps: what they need must be installed, and the named modules of all apps are imported."""

    default = False
    default_auto_field = "django.db.models.BigAutoField"
    #: Modules that this app imports from every installed app, in this order.
    discovers: tuple[str, ...] = ()
    #: Apps whose models this one refers to.
    stands_on: tuple[str, ...] = ("koan_django.core",)
    #: Modules that its extra brings.
    needs: tuple[str, ...] = ()

    def import_models(self) -> None:
        """Say what is missing before anybody meets it: Django would name a model, and Python a module."""
        for app in self.stands_on:
            if app != self.name and not apps.is_installed(app):
                raise ImproperlyConfigured(f"{self.name!r} stands on {app!r}: add that to INSTALLED_APPS, above it.")
        with naming_extra(self.name):
            for module in self.needs:
                import_module(module)
            super().import_models()

    def ready(self) -> None:
        if self.discovers:
            autodiscover_modules(*self.discovers)
