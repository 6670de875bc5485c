"""Asks providers: one that is forced, or those of the chain in order until one has the secret."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from koan_django.core.audit.counting import note_access
from koan_django.core.suggestions import did_you_mean

from .building import build
from .cache import SecretCache
from .exceptions import SecretNotFoundError, SecretOptionsError
from .fetching import fetch, fetch_many
from .offline import is_offline
from .types import SecretValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .conf import SecretsOptions
    from .providers import Provider
    from .references import SecretReference


class Chain:
    """The providers of one set of options, built on first use, and what is known of their secrets."""

    def __init__(self, options: SecretsOptions) -> None:
        self.options = options
        self.cache = SecretCache(options.cache)
        self._known = options.known()
        self._providers: dict[str, Provider] = {}
        self._building: set[str] = set()
        self._lock = threading.RLock()

    def get(self, reference: SecretReference) -> SecretValue:
        """Return the secret, or the default of ``reference``.

        Raises :class:`SecretNotFoundError` when nobody has it; any other error of a provider ends the search.
        """
        aliases = self._aliases(reference)
        for alias in aliases:
            value = self._ask(alias, reference)
            if value is not None:
                note_access("secrets.access", "secret", reference.name, alias)
                return value
        if reference.default is not None:
            return SecretValue(reference.default, name=reference.name, source="default")
        raise not_found([reference], aliases)

    def warm(self, references: Iterable[SecretReference]) -> None:
        """Fetch ``references`` from the remote providers, as few calls as they can do with."""
        waiting: dict[tuple[str, ...], list[SecretReference]] = {}
        for reference in references:
            waiting.setdefault(self._aliases(reference), []).append(reference)
        for aliases, group in waiting.items():
            pending = list(dict.fromkeys(reference.asked for reference in group))
            for alias in aliases:
                pending = self._warmed(alias, pending)

    def provider(self, alias: str) -> Provider:
        """Return the provider called ``alias``; raises :class:`SecretOptionsError` when there is none."""
        found = self._providers.get(alias)
        if found is not None:
            return found
        with self._lock:
            if alias not in self._providers:
                self._providers[alias] = self._build(alias)
            return self._providers[alias]

    def close(self) -> None:
        """Let the providers go of their connections, and forget the values."""
        self.cache.clear()
        for provider in self._providers.values():
            provider.close()

    def after_fork(self) -> None:
        """Leave locks and connections to the parent process."""
        self._lock = threading.RLock()
        self._building = set()
        self.cache.after_fork()
        for provider in self._providers.values():
            provider.close()

    def _aliases(self, reference: SecretReference) -> tuple[str, ...]:
        return (reference.provider,) if reference.provider else self.options.chain

    def _ask(self, alias: str, reference: SecretReference) -> SecretValue | None:
        provider = self.provider(alias)
        if not provider.is_remote:
            return fetch(alias, provider, reference.asked)
        key = (alias, reference.name)
        known = self.cache.fresh(key, reference.ttl)
        if known is not None:
            return known.value
        return self.cache.get(key, partial(fetch, alias, provider, reference.asked), reference.ttl)

    def _warmed(self, alias: str, references: Sequence[SecretReference]) -> list[SecretReference]:
        """Ask one provider for several; return those that it does not have."""
        provider = self.provider(alias)
        if not provider.is_remote:
            return [reference for reference in references if fetch(alias, provider, reference) is None]
        unknown = [reference for reference in references if self.cache.fresh((alias, reference.name)) is None]
        found = fetch_many(alias, provider, unknown) if unknown else {}
        for reference in unknown:
            self.cache.put((alias, reference.name), found.get(reference))
        entries = ((reference, self.cache.fresh((alias, reference.name))) for reference in references)
        return [reference for reference, entry in entries if entry is None or entry.value is None]

    def _build(self, alias: str) -> Provider:
        if alias not in self._known:
            hint = did_you_mean(alias, self._known)
            raise SecretOptionsError(f"there is no provider {alias!r} in KOAN['SECRETS']['PROVIDERS']{hint}")
        if alias in self._building:
            raise SecretOptionsError(
                f"the provider {alias!r} is needed to build itself",
                why="its OPTIONS refer to a secret that it is asked for",
                fix="Name another provider in that reference: {{secret:env:…}}.",
            )
        self._building.add(alias)
        try:
            return build(alias, self._known[alias], self._resolved)
        finally:
            self._building.discard(alias)

    def _resolved(self, options: Any) -> Any:
        from .namespace import rewritten

        return rewritten(options, self)


def not_found(references: Sequence[SecretReference], chain: Sequence[str]) -> SecretNotFoundError:
    """Return the error for ``references``, which neither ``chain`` has nor the providers that they name."""
    asked = ", ".join(
        dict.fromkeys(alias for each in references for alias in ([each.provider] if each.provider else chain))
    )
    offline = "; KOAN_SECRETS=offline, so remote providers were not" if is_offline() else ""
    return SecretNotFoundError(
        f"no secret {', '.join(repr(reference.name) for reference in references)}",
        why=f"asked: {asked}{offline}",
        fix="Store it where one of them looks, or give the reference a ?default=.",
    )
