"""The keys of the chain: the one that seals, and those that sealed before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from koan_django.core.keys import resolve_key
from koan_django.core.section import options

from .exceptions import AuditError

NO_KEY = ""


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """Keys by their ids. ``current`` is the id of the key that seals, or empty when there is none."""

    current: str
    keys: dict[str, bytes]

    def get(self, key_id: str) -> bytes | None:
        """Return the key called ``key_id``, nothing for a seal without one, ``None`` for a key that is not here."""
        return b"" if key_id == NO_KEY else self.keys.get(key_id)

    @property
    def sealing(self) -> bytes:
        """The key that seals; empty when there is none."""
        return self.keys.get(self.current, b"")


def key_ring() -> KeyRing:
    """Resolve the options ``KEY`` and ``OLD_KEYS``; raises what resolves them, and :class:`AuditError`."""
    found = options().audit
    texts = [found.key, *found.old_keys] if found.key else list(found.old_keys)
    resolved = [resolve_key(text, of="the audit chain", error=AuditError) for text in texts]
    keys = {key_id(key): key for key in resolved}
    return KeyRing(next(iter(keys), NO_KEY) if found.key else NO_KEY, keys)


def key_id(key: bytes) -> str:
    """Return the name under which seals refer to ``key``; it tells nothing about it."""
    return hashlib.sha256(b"koan-audit-key-id:" + key).hexdigest()[:16]
