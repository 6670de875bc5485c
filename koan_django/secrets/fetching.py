"""Asks one provider, and has what it gives masked wherever text is shown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from koan_django.core.redaction import redact_text, register_value, registered
from koan_django.core.telemetry import span

from .exceptions import SecretError, SecretFormatError, SecretUnavailableError
from .offline import is_offline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .providers import Provider
    from .references import SecretReference
    from .types import SecretValue

R = TypeVar("R")


def fetch(alias: str, provider: Provider, reference: SecretReference) -> SecretValue | None:
    """Ask ``provider`` for one secret; offline, a remote one has none."""
    if not provider.is_remote:
        return _known_as(reference, alias, _guarded(alias, reference.name, partial(provider.fetch, reference)))
    if is_offline():
        return None
    with span("secrets.fetch", provider=alias, reference=reference.name):
        return _known_as(reference, alias, _guarded(alias, reference.name, partial(provider.fetch, reference)))


def fetch_many(
    alias: str, provider: Provider, references: Sequence[SecretReference]
) -> dict[SecretReference, SecretValue]:
    """Ask a remote ``provider`` for several secrets; return those that it has."""
    if is_offline():
        return {}
    names = ", ".join(reference.name for reference in references)
    with span("secrets.fetch", provider=alias, reference=names):
        found = _guarded(alias, names, partial(provider.fetch_many, references))
    named = ((reference, _known_as(reference, alias, value)) for reference, value in found.items())
    return {reference: value for reference, value in named if value is not None}


def _guarded(alias: str, name: str, call: Callable[[], R]) -> R:
    """An error that is none of ours is one of the connection, until the provider says otherwise."""
    try:
        return call()
    except SecretError:
        raise
    except Exception as error:
        raise SecretUnavailableError(
            f"the provider {alias!r} did not give {name!r}", why=f"{type(error).__name__}: {redact_text(str(error))}"
        ) from error


def _known_as(reference: SecretReference, alias: str, value: SecretValue | None) -> SecretValue | None:
    """Name the value by what was asked, and have it masked from now on."""
    if value is None:
        return None
    named = value.described(name=reference.name, source=alias)
    _mask(named)
    return named


def _mask(value: SecretValue) -> None:
    try:
        text = value.reveal()
        if text in registered():
            return
        register_value(text)
        for part in value.fields().values():
            if isinstance(part, str):
                register_value(part)
    except SecretFormatError:
        return
