"""System checks of core, and of the ``KOAN`` setting as a whole. None opens a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from . import conf
from .suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def check_setting(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E001: the setting or an option is wrong. W001: a section of an app that is not installed."""
    try:
        errors: list[Any] = []
        koan = conf.effective(conf.current(), errors)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="koan_core.E001")]
    found: list[CheckMessage] = [Error(str(error), id="koan_core.E001") for error in errors]
    for name in koan:
        if name not in conf.SECTIONS:
            hint = did_you_mean(str(name), conf.SECTIONS)
            found.append(Error(f"KOAN[{name!r}]: unknown section{hint}", id="koan_core.E001"))
        elif not apps.is_installed(conf.SECTIONS[name]):
            found.append(
                Warning(
                    f"KOAN[{name!r}] is not read: {conf.SECTIONS[name]!r} is not installed",
                    hint=f"Add {conf.SECTIONS[name]!r} to INSTALLED_APPS or remove the section.",
                    id="koan_core.W001",
                )
            )
    return found


def check_core(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E002: an app of koan-django is installed, its core is not."""
    if apps.is_installed("koan_django.core"):
        return []
    return [
        Error(
            "'koan_django.core' is not in INSTALLED_APPS",
            hint="Every app of koan-django stands on it: add it above them.",
            id="koan_core.E002",
        )
    ]


def section_check(section: conf.Section[Any], check_id: str) -> Callable[..., Sequence[CheckMessage]]:
    """Return a check that turns each error of ``section`` into one message with ``check_id``."""

    def check(app_configs: object, **kwargs: object) -> list[CheckMessage]:
        try:
            own = f"KOAN[{section.name!r}]"
            return [Error(str(e), id=check_id) for e in section.errors() if e.path.startswith(own)]
        except ImproperlyConfigured:
            return []  # check_setting reports it

    return check


def register_all() -> None:
    """Register core's own checks."""
    register(check_setting)
    register(check_core)
