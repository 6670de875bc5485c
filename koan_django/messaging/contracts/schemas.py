"""The JSON Schema of a message's body, with what its markers mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from koan_django.core.registry import origin_of
from koan_django.messaging.exceptions import MessagingError

if TYPE_CHECKING:
    from koan_django.messaging.messages import Message

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = "#/$defs/{name}"


def schema_of(cls: type[Message]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the body of ``cls``.

    Markers stand as ``x-koan-partition-key``, ``x-koan-idempotency-key``, ``x-koan-sensitive`` and ``x-koan-header``
    at the property. Raises :class:`~koan_django.messaging.exceptions.MessagingError` for a field whose type has none.
    """
    try:
        (reference,), found = msgspec.json.schema_components([cls], ref_template=_REFERENCE)
    except TypeError as error:
        raise MessagingError(
            f"{origin_of(cls)} has no JSON Schema",
            why=str(error),
            fix="Use a type that JSON has a form for, or describe it with msgspec.Meta.",
        ) from error
    definitions: dict[str, dict[str, Any]] = {name: dict(each) for name, each in found.items()}
    name = reference["$ref"].rpartition("/")[2]
    own = definitions[name]
    own["properties"] = _marked(cls, own.get("properties", {}))
    if not _is_named(name, definitions):
        del definitions[name]
    return {"$schema": DIALECT, **own, **({"$defs": definitions} if definitions else {})}


def _marked(cls: type[Message], properties: dict[str, Any]) -> dict[str, Any]:
    meta = cls._meta
    names = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    marked = {name: dict(each) for name, each in properties.items()}
    if meta.partition_field is not None:
        marked[names[meta.partition_field]]["x-koan-partition-key"] = True
    for field in meta.idempotency_fields:
        marked[names[field]]["x-koan-idempotency-key"] = True
    for field, header in meta.header_fields:
        marked[names[field]]["x-koan-header"] = header
    for field in meta.digested:
        marked[names[field]]["x-koan-sensitive"] = True
    return marked


def _is_named(name: str, definitions: dict[str, Any]) -> bool:
    """Whether something refers to ``name``, as in a message that holds its own kind."""
    return json.dumps(_REFERENCE.format(name=name)) in json.dumps(definitions)
