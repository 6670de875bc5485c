"""The stores that the settings choose, made on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from koan_django.core import conf, section
from koan_django.core.options import OptionError, parse

if TYPE_CHECKING:
    from .base import BreakerStore, HealthStore, LeaseStore, Store

KINDS = ("health", "leases", "breakers")

_made: dict[str, Any] = {}
conf.on_reset(_made.clear)


def health_store() -> HealthStore:
    """Return the store of health facts."""
    return cast("HealthStore", chosen("health"))


def lease_store() -> LeaseStore:
    """Return the store of named leases."""
    return cast("LeaseStore", chosen("leases"))


def breaker_store() -> BreakerStore:
    """Return the store of circuit breakers."""
    return cast("BreakerStore", chosen("breakers"))


def chosen(kind: str) -> Store:
    """Return the store of this kind; raises ``ImproperlyConfigured`` with what is wrong."""
    found = _made.get(kind)
    if found is None:
        errors: list[str] = []
        found = make(kind, errors)
        if errors:
            raise ImproperlyConfigured("\n".join(errors))
        _made[kind] = found
    return cast("Store", found)


def make(kind: str, errors: list[str]) -> Store | None:
    """Make the store of this kind; append what is wrong to ``errors``. Opens no socket."""
    options, path = getattr(section.options(), kind), f"KOAN['CORE'][{kind.upper()!r}]"
    try:
        kind_of_store = import_string(options.backend)
    except ImportError as error:
        errors.append(f"{path}['BACKEND']: {error}")
        return None
    if getattr(kind_of_store, "keeps", None) != kind:
        errors.append(f"{path}['BACKEND']: {options.backend} keeps no {kind}")
        return None
    wrong: list[OptionError] = []
    read = parse(kind_of_store.schema, options.options, f"{path}['OPTIONS']", wrong)
    errors.extend(str(error) for error in wrong)
    if read is None:
        return None
    made = cast("Store", kind_of_store(read))
    errors.extend(f"{path}: {text}" for text in made.objections())
    return made
