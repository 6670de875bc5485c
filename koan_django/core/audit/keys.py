"""The keys of the chain: the one that seals, and those that sealed before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from koan_django.core.redaction import register_value
from koan_django.core.section import options
from koan_django.core.templating import render

from .conf import KEY_LENGTH
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
    keys = {key_id(key): key for key in map(_resolved, texts)}
    return KeyRing(next(iter(keys), NO_KEY) if found.key else NO_KEY, keys)


def key_id(key: bytes) -> str:
    """Return the name under which seals refer to ``key``; it tells nothing about it."""
    return hashlib.sha256(b"koan-audit-key-id:" + key).hexdigest()[:16]


def _resolved(text: str) -> bytes:
    value = str(render(text))
    register_value(value)
    if len(value) < KEY_LENGTH:
        raise AuditError(
            "a key of the audit chain is too short",
            why=f"it has {len(value)} characters, and {KEY_LENGTH} are needed",
            fix='Make one with: python -c "import secrets; print(secrets.token_hex(32))"',
        )
    return value.encode("utf-8", "surrogateescape")
