"""Routing keys, partitions and patterns.

Every routing key ends with exactly one partition word, ``.p<n>`` or ``.p``. A binding is therefore the alias or
pattern plus ``.*``, and means what was written: ``invoice.*`` matches ``invoice.paid`` in every partition and nothing
deeper.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

#: Of the outbox: messages of one key share a lane. The number is part of stored rows and does not change.
LANES = 64
_PARTITION = re.compile(r"\.p(\d{1,4})$", re.ASCII)


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of ``key``: the same in every process, Python version and hash seed."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def routing_key(alias: str, partition: int | None) -> str:
    """Return the key that a message is published with."""
    return f"{alias}.p{'' if partition is None else partition}"


def partition_in(key: str) -> int | None:
    """Return the partition that a routing key ends with, or ``None``: a stranger's key need not have one."""
    found = _PARTITION.search(key)
    return int(found[1]) if found else None


def binding_key(pattern: str, word: str = "*") -> str:
    """Return the key that a group's queue is bound with, for every partition or for that of ``word``."""
    return f"{pattern}.{word}"


def matches(pattern: str, alias: str) -> bool:
    """Whether a binding of ``pattern`` receives ``alias``, by the rules of AMQP 0-9-1.

    ``*`` stands for one word, ``#`` for any number of words, none included.
    """
    return _matches(tuple(pattern.split(".")), tuple(alias.split(".")))


@lru_cache(maxsize=4096)
def _matches(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not pattern:
        return not words
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return any(_matches(rest, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and _matches(rest, words[1:])


def specificity(pattern: str) -> tuple[int, int]:
    """Order patterns that match the same alias: more literal words first, then fewer ``#``."""
    words = pattern.split(".")
    literal = sum(word not in ("*", "#") for word in words)
    return (literal, -words.count("#"))
