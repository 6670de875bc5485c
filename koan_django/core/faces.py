"""Lazy exports for an app's public face.

Django imports an app's package before models may load, so a face that names a model must wait for its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .extras import naming_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module ``__getattr__`` for ``package``: ``homes`` maps a name to the submodule that defines it."""

    def __getattr__(name: str) -> Any:  # noqa: N807  # it is installed as the module's own
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with naming_extra(package):
            value = getattr(import_module(f"{package}.{home}"), name)
        setattr(import_module(package), name, value)
        return value

    return __getattr__
