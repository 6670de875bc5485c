"""Defaults that are for development: they make a project start on nothing, and ``check --deploy`` names each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured

from .conf import section


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """A store by the dotted path of its class, and the options that this class takes."""

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreOptions:
    """``allow_dev_defaults_in_production``: they are meant, and ``check --deploy`` does not name them.

    ``health`` and ``leases`` choose where processes keep what they tell each other.
    """

    allow_dev_defaults_in_production: bool = False
    health: StoreOptions = field(default_factory=lambda: StoreOptions(backend="koan_django.core.stores.rows.RowHealth"))
    leases: StoreOptions = field(default_factory=lambda: StoreOptions(backend="koan_django.core.stores.rows.RowLeases"))


options = section("CORE", CoreOptions)


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
