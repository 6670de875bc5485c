"""Keeps the values of :data:`~koan_django.messaging.markers.Sensitive` fields out of ``repr`` and the admin.

Names are masked at any depth, since a plain dict does not say which type it stands for.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from koan_django.core.redaction import MASK

from .markers import SENSITIVE, Marker


def hints_of(record: type) -> dict[str, Any]:
    """Return the annotations of ``record`` with their metadata; raises ``NameError`` for one that is not there."""
    return get_type_hints(record, include_extras=True)


def markers_of(hint: Any) -> set[Marker]:
    """Return the markers that stand directly on ``hint``, through containers and unions but not into records."""
    found = {extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Marker)}
    inner = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    return found.union(*(markers_of(argument) for argument in inner))


@cache
def sensitive_names(record: type) -> frozenset[str]:
    """Return the names of the masked fields of ``record`` and of all it holds, also as they stand on the wire."""
    return frozenset(_names(record, set()))


def shown(value: Any, names: frozenset[str] | None = None) -> str:
    """Return the ``repr`` of a message, or of something inside one whose masked ``names`` are known.

    When the annotations cannot be read every field is masked: what to hide is not known.
    """
    if names is None:
        try:
            names = sensitive_names(type(value))  # type: ignore[arg-type]  # mypy takes type[Any] for unhashable
        except (NameError, TypeError):
            names = frozenset(_attributes(value) or ())
    attributes = _attributes(value)
    if attributes is not None:
        inside = (f"{name}={_item(name, getattr(value, name), names)}" for name in attributes)
        return f"{type(value).__name__}({', '.join(inside)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_item(key, item, names)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(shown(item, names) for item in value) + "]"
    if isinstance(value, tuple | set | frozenset):
        return f"{type(value).__name__}({', '.join(shown(item, names) for item in value)})"
    return repr(value)


def masked(value: Any, names: frozenset[str]) -> Any:
    """Return parsed JSON with the values of ``names`` masked."""
    if isinstance(value, dict):
        return {key: MASK if key in names else masked(item, names) for key, item in value.items()}
    return [masked(item, names) for item in value] if isinstance(value, list) else value


def _item(name: object, value: Any, names: frozenset[str]) -> str:
    return MASK if name in names else shown(value, names)


def _attributes(value: Any) -> tuple[str, ...] | None:
    """The fields of an instance of a record, or ``None`` for anything else."""
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(field.name for field in fields(value))
    return getattr(value, "_fields", None) if isinstance(value, tuple) else None


def _names(record: type, seen: set[type]) -> set[str]:
    if record in seen:
        return set()
    seen.add(record)
    names, on_wire = getattr(record, "__struct_fields__", ()), getattr(record, "__struct_encode_fields__", ())
    wire = dict(zip(names, on_wire, strict=True))
    found: set[str] = set()
    for name, hint in hints_of(record).items():
        if SENSITIVE in markers_of(hint):
            found |= {name, wire.get(name, name)}
        for nested in _records(hint):
            found |= _names(nested, seen)
    return found


def _records(hint: Any) -> list[type]:
    """The records that ``hint`` is made of: structs, dataclasses, typed dicts and named tuples."""
    base = get_origin(hint) or hint
    found = [base] if isinstance(base, type) and _is_record(base) else []
    return found + [record for argument in get_args(hint) for record in _records(argument)]


def _is_record(kind: type) -> bool:
    return (
        issubclass(kind, msgspec.Struct)
        or is_dataclass(kind)
        or is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )
