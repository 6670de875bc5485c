"""The options of ``KOAN['SECRETS']``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from koan_django.core.conf import section
from koan_django.core.suggestions import did_you_mean

#: Aliases that exist without being configured; each may be configured all the same.
BUILT_IN: Mapping[str, str] = {
    "env": "koan_django.secrets.providers.env.EnvProvider",
    "file": "koan_django.secrets.providers.file.FileProvider",
    "memory": "koan_django.secrets.providers.memory.MemoryProvider",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderOptions:
    """A provider: its class by dotted path, and the keyword arguments of its constructor."""

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """How long the values of remote providers are kept.

    After ``ttl`` a value is fetched again; while its provider does not answer the old one serves on, until
    ``hard_ttl``. That a provider has no such secret is remembered for ``not_found_ttl``.
    """

    ttl: timedelta = timedelta(minutes=5)
    hard_ttl: timedelta = timedelta(hours=1)
    not_found_ttl: timedelta = timedelta(seconds=5)

    def __post_init__(self) -> None:
        if self.hard_ttl < self.ttl:
            raise ValueError("HARD_TTL must not be less than TTL")
        if min(self.ttl, self.not_found_ttl) < timedelta(0):
            raise ValueError("TTL and NOT_FOUND_TTL must not be less than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsOptions:
    """``chain`` names the providers that are asked, in order; the first that has a secret answers."""

    chain: tuple[str, ...] = ("env",)
    providers: Mapping[str, ProviderOptions] = field(default_factory=dict)
    cache: CacheOptions = CacheOptions()

    def __post_init__(self) -> None:
        known = self.known()
        unknown = [alias for alias in self.chain if alias not in known]
        if unknown:
            alias = unknown[0]
            raise ValueError(f"CHAIN names {alias!r}, which is not in PROVIDERS{did_you_mean(alias, known)}")
        if not self.chain or len(set(self.chain)) < len(self.chain):
            raise ValueError("CHAIN must name at least one provider, and each once")

    def known(self) -> dict[str, ProviderOptions]:
        """Return every provider that a reference may name, by alias."""
        built_in = {alias: ProviderOptions(backend=backend) for alias, backend in BUILT_IN.items()}
        return {**built_in, **self.providers}


options = section("SECRETS", SecretsOptions)
