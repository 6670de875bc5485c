"""Makes a provider of its options."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from koan_django.core.redaction import redact_text

from .exceptions import SecretError, SecretOptionsError
from .providers import Provider

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conf import ProviderOptions


def load(alias: str, declared: ProviderOptions) -> type[Provider]:
    """Import the class of a provider; raises :class:`SecretOptionsError` when it cannot be used as it is declared."""
    path = f"KOAN['SECRETS']['PROVIDERS'][{alias!r}]"
    module, _, name = declared.backend.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SecretOptionsError(
            f"{path}['BACKEND']: {declared.backend!r} cannot be imported", why=str(error)
        ) from error
    if not isinstance(found, type) or not issubclass(found, Provider):
        raise SecretOptionsError(f"{path}['BACKEND']: {declared.backend!r} is no subclass of Provider")
    try:
        signature(found).bind(**declared.options)
    except TypeError as error:
        raise SecretOptionsError(f"{path}['OPTIONS'] do not fit {found.__name__}", why=str(error)) from error
    return found


def build(alias: str, declared: ProviderOptions, resolved: Callable[[Any], Any]) -> Provider:
    """Make the provider, with the references in its options resolved."""
    made = load(alias, declared)
    try:
        return made(**resolved(dict(declared.options)))
    except SecretError:
        raise
    except Exception as error:
        raise SecretOptionsError(
            f"the provider {alias!r} cannot be built", why=f"{type(error).__name__}: {redact_text(str(error))}"
        ) from error
