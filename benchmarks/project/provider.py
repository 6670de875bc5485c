"""Secrets out of Vault by hvac, so that both sides read the same server with the same client."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from koan_django.secrets.providers import Provider
from koan_django.secrets.types import SecretValue

if TYPE_CHECKING:
    from koan_django.secrets.references import SecretReference


def client() -> Any:
    """Return a client of the run's server."""
    import hvac

    return hvac.Client(url=os.environ["BENCH_VAULT_URL"], token=os.environ["BENCH_VAULT_TOKEN"])


def read(vault: Any, path: str) -> dict[str, str]:
    """Return the fields of a secret, by a request."""
    found: dict[str, str] = vault.secrets.kv.v2.read_secret_version(path=path, raise_on_deleted_version=True)["data"][
        "data"
    ]
    return found


class HvacProvider(Provider):
    """The least that a provider has to do."""

    is_remote: ClassVar[bool] = True

    @cached_property
    def _client(self) -> Any:
        return client()

    def fetch(self, reference: SecretReference) -> SecretValue | None:
        found = read(self._client, reference.path).get(reference.field)
        return None if found is None else SecretValue(found, name=reference.name)
