"""Defaults that are for development: they make a project start on nothing, and ``check --deploy`` names each."""

from __future__ import annotations

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured

from .section import options


def in_force(what: str, *, instead: str, id: str) -> list[CheckMessage]:
    """Return the warning of a deployment check that a development default is in force; none where they are allowed."""
    try:
        allowed = options().allow_dev_defaults_in_production
    except ImproperlyConfigured:
        allowed = False  # check_options reports it
    if allowed:
        return []
    hint = f"{instead} Or set KOAN['CORE']['ALLOW_DEV_DEFAULTS_IN_PRODUCTION'] if all of them are meant."
    return [Warning(f"Development default: {what}", hint=hint, id=id)]
