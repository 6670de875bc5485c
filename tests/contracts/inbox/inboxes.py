"""Settings that put the inbox into Redis."""

from __future__ import annotations

from typing import Any


def redis_inbox(prefix: str) -> dict[str, Any]:
    """Return ``KOAN["INBOX"]`` with the entries in the cache ``redis``."""
    return {"STORE": "redis", "OPTIONS": {"CACHE": "redis", "PREFIX": prefix}}
