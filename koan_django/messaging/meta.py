"""What a message class says about itself: alias, version, keys, headers and what must not be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from .markers import IDEMPOTENCY, PARTITION, SENSITIVE, Header, Marker

if TYPE_CHECKING:
    from .messages import Message

#: Words of letters, digits, ``_`` and ``-`` joined by dots. The last word may not look like a partition.
ALIAS = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PARTITION_WORD = re.compile(r"(^|\.)p\d*$")
#: RabbitMQ's limit for a routing key is 255 bytes; the partition takes the rest.
ALIAS_LENGTH = 200


@dataclass(frozen=True, slots=True)
class MessageOptions:
    """The resolved options of a message class."""

    alias: str
    version: int
    bus: str | None
    pinned: bool
    partition_field: str | None
    idempotency_fields: tuple[str, ...]
    header_fields: tuple[tuple[str, str], ...]
    #: Names of fields, at any depth, whose values are masked. Names as they stand on the wire.
    sensitive_names: frozenset[str]

    def partition_key(self, message: Message) -> str | None:
        """Return the text that decides the partition, or ``None``."""
        return None if self.partition_field is None else canonical(getattr(message, self.partition_field))

    def idempotency_key(self, message: Message) -> str | None:
        """Return the text that identifies the work, or ``None``: then the message id does."""
        if not self.idempotency_fields:
            return None
        return "|".join(canonical(getattr(message, name)) for name in self.idempotency_fields)

    def headers(self, message: Message) -> dict[str, str]:
        """Return the headers taken from fields; ``None`` is left out."""
        found = ((header, getattr(message, name)) for name, header in self.header_fields)
        return {header: canonical(value) for header, value in found if value is not None}


def canonical(value: object) -> str:
    """Return the text of a key: the same in every process, Python version and hash seed."""
    if isinstance(value, Enum):
        return canonical(value.value)
    if isinstance(value, str):
        return value
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


def markers_of(hint: Any) -> set[Marker]:
    """Return the markers that stand directly on ``hint``, through containers and unions but not into structs."""
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        return {extra for extra in extras if isinstance(extra, Marker)} | markers_of(base)
    found: set[Marker] = set()
    for argument in get_args(hint):
        found |= markers_of(argument)
    return found


def top_markers(hint: Any) -> set[Marker]:
    """Return the markers on the field itself, not inside a container or a union."""
    if get_origin(hint) is not Annotated:
        return set()
    base, *extras = get_args(hint)
    return {extra for extra in extras if isinstance(extra, Marker)} | top_markers(base)


def hints_of(struct: type) -> dict[str, Any]:
    """Return the annotations of ``struct`` with their metadata."""
    return get_type_hints(struct, include_extras=True)


def build(cls: type[Message], meta: dict[str, Any], default_alias: str | None) -> MessageOptions:
    """Read the options of ``cls``; ``meta`` is its ``Meta`` with inherited policies."""
    hints = hints_of(cls)
    fields = [field for field in cls.__struct_fields__ if field in hints]
    partition = [name for name in fields if PARTITION in top_markers(hints[name])]
    return MessageOptions(
        alias=meta.get("alias") or default_alias or "",
        version=meta.get("version", 1),
        bus=meta.get("bus"),
        pinned="alias" in meta,
        partition_field=partition[0] if partition else None,
        idempotency_fields=tuple(name for name in fields if IDEMPOTENCY in top_markers(hints[name])),
        header_fields=tuple(
            (name, extra.name) for name in fields for extra in _extras(hints[name]) if isinstance(extra, Header)
        ),
        sensitive_names=frozenset(_sensitive(cls, set())),
    )


def _extras(hint: Any) -> list[object]:
    if get_origin(hint) is not Annotated:
        return []
    base, *extras = get_args(hint)
    return [*extras, *_extras(base)]


def _sensitive(struct: type, seen: set[type]) -> set[str]:
    """Collect masked names from ``struct`` and every struct it holds."""
    if struct in seen:
        return set()
    seen.add(struct)
    wire_names = dict(zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True))  # type: ignore[attr-defined]
    found: set[str] = set()
    for name, hint in hints_of(struct).items():
        if name not in wire_names:
            continue
        if SENSITIVE in markers_of(hint):
            found |= {name, wire_names[name]}
        for nested in _structs(hint):
            found |= _sensitive(nested, seen)
    return found


def _structs(hint: Any) -> list[type]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [struct for argument in get_args(hint) for struct in _structs(argument)]
