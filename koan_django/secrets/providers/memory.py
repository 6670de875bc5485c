"""Secrets from a dict, for tests and a first try."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from koan_django.secrets.references import parse
from koan_django.secrets.types import SecretValue

from .base import Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from koan_django.secrets.references import SecretReference


class MemoryProvider(Provider):
    """Holds ``values`` by reference: ``{"broker-password": "…", "app/db#user": "…", "app/db@2": "…"}``.

    A field is looked up by its own key first, then in the JSON object under the key of the path.
    """

    is_remote: ClassVar[bool] = False
    is_development_only: ClassVar[bool] = True

    def __init__(self, *, values: Mapping[str, str | bytes] | None = None) -> None:
        self._values = {parse(key).name: value for key, value in (values or {}).items()}

    def set(self, key: str, value: str | bytes) -> None:
        """Keep ``value`` under ``key`` from now on."""
        self._values[parse(key).name] = value

    def remove(self, key: str) -> None:
        """Forget ``key``; it may be unknown."""
        self._values.pop(parse(key).name, None)

    def fetch(self, reference: SecretReference) -> SecretValue | None:
        found = self._values.get(reference.name)
        if found is not None:
            return SecretValue(found, name=reference.name, version=reference.version)
        whole = self._values.get(reference.without_field().name) if reference.field else None
        if whole is None:
            return None
        return SecretValue(whole, name=reference.path, version=reference.version).field(reference.field)
