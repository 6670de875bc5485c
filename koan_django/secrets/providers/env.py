"""Secrets from environment variables."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from koan_django.secrets.exceptions import SecretFormatError
from koan_django.secrets.types import SecretValue

from .base import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from koan_django.secrets.references import SecretReference

_UNFIT = re.compile(r"[^A-Z0-9]")


@lru_cache(maxsize=1024)
def variable_name(path: str, field: str = "") -> str:
    """Return the variable's name: ``app/prod-db#user`` is ``APP_PROD_DB__USER``.

    Letters become capitals, and all that is no letter or digit of ASCII an underscore; two stand before the field.
    """
    name = _UNFIT.sub("_", path.upper())
    return f"{name}__{_UNFIT.sub('_', field.upper())}" if field else name


class EnvProvider(Provider):
    """Reads ``{{secret:app/prod/database}}`` from ``KOAN_SECRET_APP_PROD_DATABASE``, else ``APP_PROD_DATABASE``.

    A field is a variable of its own (``APP_PROD_DATABASE__PASSWORD``), else a field of the JSON object in the
    variable of the path. ``prefixes`` are tried in order; without the empty one, only variables that were meant as
    secrets are read. An empty variable counts as absent, since that is how compose files pass on one that is not set.
    """

    is_remote: ClassVar[bool] = False

    def __init__(
        self, *, prefixes: Sequence[str] = ("KOAN_SECRET_", ""), environ: Mapping[str, str] | None = None
    ) -> None:
        self._prefixes = tuple(prefixes)
        self._environ = os.environ if environ is None else environ

    def fetch(self, reference: SecretReference) -> SecretValue | None:
        if reference.version:
            return None
        for name in self._names(variable_name(reference.path, reference.field)):
            if text := self._environ.get(name):
                return SecretValue(text, name=name)
        return self._json_field(reference) if reference.field else None

    def _json_field(self, reference: SecretReference) -> SecretValue | None:
        for name in self._names(variable_name(reference.path)):
            if text := self._environ.get(name):
                try:
                    return SecretValue(text, name=name).field(reference.field)
                except SecretFormatError:
                    continue  # a variable of that name that was never meant as this secret
        return None

    def _names(self, name: str) -> Iterator[str]:
        return (prefix + name for prefix in self._prefixes)
