"""What a message class says about itself: alias, version, keys and headers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin
from uuid import UUID

import msgspec

from .envelope import ALIAS_LENGTH, OWN
from .markers import IDEMPOTENCY, PARTITION, SENSITIVE, Header, Marker
from .masking import hints_of, markers_of
from .routing import routing_key

if TYPE_CHECKING:
    from .messages import Message

#: Words of letters, digits, ``_`` and ``-`` joined by dots. The last word may not look like a partition.
ALIAS = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PARTITION_WORD = re.compile(r"(^|\.)p\d*$")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class MessageOptions:
    """The resolved options of a message class."""

    alias: str
    version: int
    bus: str | None
    pinned: bool
    partition_field: str | None
    idempotency_fields: tuple[str, ...]
    #: (field, header)
    header_fields: tuple[tuple[str, str], ...]
    #: Key fields that are sensitive: a digest of their value travels in the header, not the value.
    digested: frozenset[str]
    #: With which it is published when it has no partition key.
    routing_key: str

    def partition_key(self, message: Message) -> str | None:
        """Return the text that decides the partition, or ``None``."""
        return None if self.partition_field is None else self._key(message, self.partition_field)

    def idempotency_key(self, message: Message) -> str | None:
        """Return the text that identifies the work, or ``None``: then the message id does.

        A key that is ``None``, or has a part that is, identifies nothing.
        """
        if not self.idempotency_fields or any(getattr(message, name) is None for name in self.idempotency_fields):
            return None
        parts = [self._key(message, name) for name in self.idempotency_fields]
        if len(parts) < 2:
            return parts[0]
        return msgspec.json.encode(parts).decode()  # joined by a separator, ("a|b", "c") would equal ("a", "b|c")

    def headers(self, message: Message) -> dict[str, str]:
        """Return the headers taken from fields; ``None`` is left out."""
        found = ((header, getattr(message, name)) for name, header in self.header_fields)
        return {header: canonical(value) for header, value in found if value is not None}

    def _key(self, message: Message, name: str) -> str:
        text = canonical(getattr(message, name))
        return hashlib.sha256(text.encode()).hexdigest()[:32] if name in self.digested else text


def canonical(value: object) -> str:
    """Return the text of a key: the same in every process, Python version and hash seed."""
    if isinstance(value, Enum):
        return canonical(value.value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | UUID):
        return str(value)
    return msgspec.json.encode(value).decode()


def alias_problem(alias: str) -> str | None:
    """Return why ``alias`` cannot be one, or ``None``."""
    if len(alias) > ALIAS_LENGTH:
        return f"it is longer than {ALIAS_LENGTH} characters"
    if ALIAS.fullmatch(alias) is None:
        return "an alias is words of letters, digits, '_' and '-' joined by dots"
    if _PARTITION_WORD.search(alias):
        return "its last word looks like a partition ('p' or 'p' and digits)"
    return None


def header_problem(name: str) -> str | None:
    """Return why ``name`` cannot be the header of a field, or ``None``."""
    if _HEADER.fullmatch(name) is None:
        return "a header is a letter and up to 63 letters, digits, '_', '.' and '-'"
    if name.lower() in OWN or name.lower().startswith(("koan-", "x-death", "x-first-death", "x-last-death")):
        return "that header has a meaning already"
    return "RabbitMQ would route by that header" if name in ("CC", "BCC") else None


def top_markers(hint: Any) -> set[Marker]:
    """Return the markers on the field itself, not inside a container or a union."""
    return {extra for extra in extras_of(hint) if isinstance(extra, Marker)}


def idempotency_markers(hint: Any) -> set[Marker]:
    """Return the markers on the field itself or on what it is when it is not ``None``."""
    if get_origin(hint) in (Union, UnionType):
        return set().union(*(idempotency_markers(argument) for argument in get_args(hint)))
    inner = idempotency_markers(get_args(hint)[0]) if get_origin(hint) is Annotated else set()
    return top_markers(hint) | inner


def extras_of(hint: Any) -> list[object]:
    """Return the metadata of ``hint``, nested ``Annotated`` included."""
    if get_origin(hint) is not Annotated:
        return []
    base, *extras = get_args(hint)
    return [*extras, *extras_of(base)]


def build(cls: type[Message], meta: dict[str, Any], default_alias: str | None) -> MessageOptions:
    """Read the options of ``cls``; ``meta`` is its ``Meta`` with inherited policies."""
    hints = hints_of(cls)
    fields = [field for field in cls.__struct_fields__ if field in hints]
    partition = [name for name in fields if PARTITION in top_markers(hints[name])]
    alias = meta.get("alias") or default_alias or ""
    return MessageOptions(
        alias=alias,
        version=meta.get("version", 1),
        bus=meta.get("bus"),
        pinned="alias" in meta,
        partition_field=partition[0] if partition else None,
        idempotency_fields=tuple(name for name in fields if IDEMPOTENCY in idempotency_markers(hints[name])),
        header_fields=tuple(
            (name, extra.name) for name in fields for extra in extras_of(hints[name]) if isinstance(extra, Header)
        ),
        digested=frozenset(name for name in fields if SENSITIVE in markers_of(hints[name])),
        routing_key=routing_key(alias, None),
    )
