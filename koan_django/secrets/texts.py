"""Every text of the finished settings, wherever it hides."""

from __future__ import annotations

import sys
import warnings
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.functional import Promise

from koan_django.core import conf

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLOSED = (ModuleType, FunctionType, BuiltinFunctionType, type)


def settings_texts() -> Iterator[tuple[str, str]]:
    """Yield (path, text) for each text outside ``KOAN``: in containers, in objects, and under lower-case names."""
    seen: set[int] = set()
    for name, value in _values():
        yield from _texts(value, name, seen)


def koan_texts() -> Iterator[tuple[str, str]]:
    """Yield (path, text) for each text of ``KOAN`` as it is written."""
    yield from _texts(dict(conf.current()), "KOAN", set())


def _values() -> Iterator[tuple[str, Any]]:
    for name in dir(settings):
        if name.isupper() and name != "KOAN":
            with warnings.catch_warnings(action="ignore"):  # to look at a deprecated setting is not to use it
                value = getattr(settings, name)
            yield name, value
    module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", None) or "")
    for name, value in list(vars(module).items()) if module else ():
        if not name.isupper() and not name.startswith("__"):
            yield name, value


def _texts(value: Any, path: str, seen: set[int], *, inside: bool = False) -> Iterator[tuple[str, str]]:
    """Walk ``value``. An object is looked into, the objects that it holds are not: they may lead anywhere."""
    if isinstance(value, Promise):
        value = str(value)
    if isinstance(value, str):
        yield path, value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for key, item in _items(value, inside):
        yield from _texts(item, f"{path}{key}", seen, inside=inside or key.startswith("."))


def _items(value: Any, inside: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif not inside and not isinstance(value, _CLOSED) and isinstance(getattr(value, "__dict__", None), dict):
        yield from ((f".{name}", item) for name, item in list(vars(value).items()))
