"""Turns plain settings into frozen dataclasses and reports every error at once, with its full path.

The schema is a frozen dataclass whose field ``confirm_timeout`` reads the key ``CONFIRM_TIMEOUT``. Supported hints:
nested dataclasses, ``Mapping[str, X]``, ``tuple[X, ...]``, ``X | None``, ``Literal``, ``timedelta``, ``Path``,
``Callable`` and the plain scalars. A rule across fields is a ``ValueError`` raised in ``__post_init__``.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .durations import parse_duration
from .redaction import MASK, redact_text
from .suggestions import did_you_mean

T = TypeVar("T")
_INVALID = object()
#: The user and the password of a URL, whatever stands in them.
_USERINFO = re.compile(r"://\S*@")


@dataclass(frozen=True, slots=True)
class OptionError:
    """One wrong option: where it stands and what is wrong with it."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def shown(value: object) -> str:
    """Return the ``repr`` of what somebody configured, without secrets: a URL may stand in the wrong place."""
    return _USERINFO.sub(f"://{MASK}@", redact_text(repr(value)))


def parse(schema: type[T], value: object, path: str, errors: list[OptionError]) -> T | None:
    """Read ``value`` as ``schema``; append what is wrong to ``errors`` and return ``None`` when anything is."""
    found = _dataclass(schema, value, path, errors)
    return None if found is _INVALID else found  # type: ignore[return-value]  # _INVALID stands apart from every T


@cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


def _dataclass(schema: type, value: object, path: str, errors: list[OptionError]) -> object:
    if not isinstance(value, Mapping):
        return _wrong(errors, path, f"{shown(value)} is not a dict")
    before = len(errors)
    known = {field.name.upper(): field for field in fields(schema)}
    errors.extend(
        OptionError(_at(path, key), f"unknown option{did_you_mean(str(key), known)}")
        for key in value
        if key not in known
    )
    arguments: dict[str, object] = {}
    for key, field in known.items():
        if key in value:
            arguments[field.name] = _convert(_hints(schema)[field.name], value[key], _at(path, key), errors)
        elif field.default is MISSING and field.default_factory is MISSING:
            errors.append(OptionError(_at(path, key), "is required"))
    if len(errors) > before:
        return _INVALID
    try:
        return schema(**arguments)
    except ValueError as error:
        return _wrong(errors, path, str(error))


def _convert(hint: Any, value: object, path: str, errors: list[OptionError]) -> object:
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), value, path, errors)
    if origin is Literal:
        return _literal(get_args(hint), value, path, errors)
    if origin is Callable:
        return value if callable(value) else _wrong(errors, path, f"{shown(value)} cannot be called")
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(hint)[1], value, path, errors)
    if origin is tuple:
        return _sequence(get_args(hint)[0], value, path, errors)
    if is_dataclass(hint):
        return _dataclass(hint, value, path, errors)  # type: ignore[arg-type]  # a class, never an instance
    return _scalar(hint, value, path, errors)


def _union(hints: tuple[Any, ...], value: object, path: str, errors: list[OptionError]) -> object:
    if value is None and types.NoneType in hints:
        return None
    tried: list[OptionError] = []
    for hint in hints:
        if hint is types.NoneType:
            continue
        attempt: list[OptionError] = []
        found = _convert(hint, value, path, attempt)
        if not attempt:
            return found
        tried = tried or attempt
    errors.extend(tried)
    return _INVALID


def _literal(choices: tuple[Any, ...], value: object, path: str, errors: list[OptionError]) -> object:
    if value in choices:
        return value
    listed = ", ".join(repr(choice) for choice in choices)
    hint = did_you_mean(str(value), [str(choice) for choice in choices])
    return _wrong(errors, path, f"{shown(value)} is not one of {listed}{hint}")


def _mapping(hint: Any, value: object, path: str, errors: list[OptionError]) -> object:
    if not isinstance(value, Mapping):
        return _wrong(errors, path, f"{shown(value)} is not a dict")
    for key in value:
        if not isinstance(key, str):
            return _wrong(errors, path, f"the key {key!r} is not text")
    return types.MappingProxyType({key: _convert(hint, item, _at(path, key), errors) for key, item in value.items()})


def _sequence(hint: Any, value: object, path: str, errors: list[OptionError]) -> object:
    if not isinstance(value, list | tuple):
        return _wrong(errors, path, f"{shown(value)} is not a list")
    return tuple(_convert(hint, item, f"{path}[{index}]", errors) for index, item in enumerate(value))


def _scalar(hint: Any, value: object, path: str, errors: list[OptionError]) -> object:
    if hint is timedelta:
        try:
            return parse_duration(value)
        except ValueError as error:
            return _wrong(errors, path, str(error).replace(repr(value), shown(value)))
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    names = {str: "text", int: "a whole number", float: "a number", bool: "True or False", Path: "a path"}
    return _wrong(errors, path, f"{shown(value)} is not {names.get(hint, hint)}")


def _wrong(errors: list[OptionError], path: str, text: str) -> object:
    errors.append(OptionError(path, text))
    return _INVALID


def _at(path: str, key: object) -> str:
    return f"{path}[{shown(key)}]"
