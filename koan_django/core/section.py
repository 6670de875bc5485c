"""The section ``KOAN["CORE"]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .audit.conf import AuditOptions
from .conf import section


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """A store by the dotted path of its class, and the options that this class takes."""

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreOptions:
    """``allow_dev_defaults_in_production``: they are meant, and ``check --deploy`` does not name them.

    ``health``, ``leases`` and ``breakers`` choose where processes keep what they tell each other; ``audit`` says what
    is recorded.
    """

    allow_dev_defaults_in_production: bool = False
    health: StoreOptions = field(default_factory=lambda: StoreOptions(backend="koan_django.core.stores.rows.RowHealth"))
    leases: StoreOptions = field(default_factory=lambda: StoreOptions(backend="koan_django.core.stores.rows.RowLeases"))
    breakers: StoreOptions = field(
        default_factory=lambda: StoreOptions(backend="koan_django.core.stores.breakers.RowBreakers")
    )
    audit: AuditOptions = field(default_factory=AuditOptions)


options = section("CORE", CoreOptions)
