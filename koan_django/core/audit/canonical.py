"""What is hashed: each event as one line of JSON, and a seal as the line that names what it covers.

A line is a JSON array in UTF-8, without spaces, keys of objects sorted, times in UTC with microseconds. Arrays keep the
borders between columns, so no two different events have the same line. The format is numbered: a column that is added
later joins a new format, and old seals are still read by theirs. A number too large for a float, which only a hand at
the database can have put there, is written as ``Infinity``: its event is sealed like the others.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .models import AuditSeal

FORMAT = 1
#: The columns of an event that a seal covers, in the order of format 1.
COLUMNS = (
    "id",
    "at",
    "action",
    "actor",
    "actor_reference",
    "process",
    "object_type",
    "object_id",
    "object_text",
    "correlation_id",
    "tenant",
    "data",
)
#: What stands before the first seal.
GENESIS = "0" * 64


def line(values: Sequence[Any]) -> bytes:
    """Return ``values`` as they are hashed."""
    text = json.dumps(values, default=_moment, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode("utf-8", "surrogatepass")


def digest(rows: Iterable[Sequence[Any]]) -> str:
    """Return the SHA-256 of events, given as their :data:`COLUMNS` in the order of their ids."""
    found = hashlib.sha256()
    for row in rows:
        found.update(line(row))
        found.update(b"\n")
    return found.hexdigest()


def seal_hash(seal: AuditSeal, key: bytes) -> str:
    """Return the hash of ``seal``, by HMAC when there is a ``key``."""
    return sign(
        "seal",
        [
            seal.format,
            seal.number,
            seal.previous,
            seal.first_id,
            seal.last_id,
            seal.count,
            seal.digest,
            seal.key_id,
            seal.sealed_at,
        ],
        key,
    )


def sign(purpose: str, values: Sequence[Any], key: bytes) -> str:
    """Return the SHA-256 of ``values``, by HMAC when there is a ``key``. A hash for one purpose fits no other."""
    text = line([f"koan-audit-{purpose}", *values])
    if key:
        return hmac.new(key, text, hashlib.sha256).hexdigest()
    return hashlib.sha256(text).hexdigest()


def is_same(one: str, other: str) -> bool:
    """Compare two hashes in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    raise TypeError(f"{type(value).__name__} has no canonical form")
