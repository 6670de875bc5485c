"""What a request may say. One table of fields reads the bodies and describes them in the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koan_django.core.suggestions import did_you_mean

from .problems import Problem

KEY_LENGTH = 255
#: No character that a URL would have to escape, and nothing that a proxy takes for another folder.
KEY_PATTERN = rf"^[A-Za-z0-9:][A-Za-z0-9._~:@+=-]{{0,{KEY_LENGTH - 1}}}$"
_KEY = re.compile(KEY_PATTERN[1:-1])
#: What stands in the place of a key in the addresses of the service.
RESERVED = frozenset({"mark-processed", "try-begin", "renew", "release", "openapi.json"})
#: Numbers that every JSON parser reads exactly.
LARGEST = 2**53 - 1
SHORTEST_LEASE, LONGEST_LEASE = 5, 120


@dataclass(frozen=True, slots=True)
class Key:
    """The text that stands for a piece of work."""

    @property
    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {
            "type": "string",
            "minLength": 1,
            "maxLength": KEY_LENGTH,
            "pattern": KEY_PATTERN,
            "examples": ["main:billing:evt-1"],
        }

    def read(self, value: object) -> str:
        """Return the key; raises ``ValueError``."""
        if not isinstance(value, str):
            raise ValueError("is not text")
        if not 0 < len(value) <= KEY_LENGTH:
            raise ValueError(f"must have 1 to {KEY_LENGTH} characters")
        if _KEY.fullmatch(value) is None:
            raise ValueError("may hold letters, digits and . _ ~ : @ + = - only, and begins with none of . _ ~ @ + = -")
        if value in RESERVED:
            raise ValueError("is a word of the service's own addresses")
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two others."""

    least: int
    most: int

    @property
    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def read(self, value: object) -> int:
        """Return the number; raises ``ValueError``."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # in JSON 60.0 is a whole number too
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("is not a whole number")
        if not self.least <= value <= self.most:
            raise ValueError(f"must be between {self.least} and {self.most}")
        return value


@dataclass(frozen=True, slots=True)
class Body:
    """The fields of a request, by name; those that are ``required`` must be there, and no others may."""

    fields: Mapping[str, Key | Whole]
    required: tuple[str, ...]

    @property
    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {
            "type": "object",
            "properties": {name: field.schema for name, field in self.fields.items()},
            "required": list(self.required),
            "additionalProperties": False,
        }

    def read(self, content: bytes) -> dict[str, Any]:
        """Return what ``content`` says; raises :class:`Problem` with the first thing that is wrong."""
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            raise Problem(400, "not-json", "The body is not JSON in UTF-8") from None
        if not isinstance(found, dict):
            raise Problem(400, "invalid", "The body is not an object")
        for name in found:
            if name not in self.fields:
                raise Problem(400, "invalid", f"An unknown field{did_you_mean(name, self.fields)}")
        for name in self.required:
            if name not in found:
                raise Problem(400, "invalid", f"{name} is missing")
        return {name: _read(name, self.fields[name], value) for name, value in found.items()}


def _read(name: str, field: Key | Whole, value: object) -> object:
    try:
        return field.read(value)
    except ValueError as error:
        raise Problem(400, "invalid", f"{name} {error}") from None


_KEY_FIELD, _TOKEN, _SECONDS = Key(), Whole(1, LARGEST), Whole(SHORTEST_LEASE, LONGEST_LEASE)

BEGIN = Body({"key": _KEY_FIELD, "leaseSeconds": _SECONDS}, ("key",))
MARK = Body({"key": _KEY_FIELD, "fencingToken": _TOKEN}, ("key",))
RENEW = Body({"key": _KEY_FIELD, "fencingToken": _TOKEN, "leaseSeconds": _SECONDS}, ("key", "fencingToken"))
RELEASE = Body({"key": _KEY_FIELD, "fencingToken": _TOKEN}, ("key", "fencingToken"))


def key_of(text: str) -> str:
    """Return the key in an address; raises :class:`Problem`."""
    found = _read("key", _KEY_FIELD, text)
    assert isinstance(found, str)
    return found
