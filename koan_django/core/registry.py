"""Named things that code declares: handlers, recipes, scheduled tasks, jobs, panels."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Generic, TypeVar

from .exceptions import RegistrationError
from .suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

V = TypeVar("V")


def origin_of(target: object) -> str:
    """Return ``module.qualname``: the identity of a function or class, stable across a reload."""
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', repr(target))}"


def place_of(target: object) -> str:
    """Return where a function stands: :func:`origin_of`, and its line, since of two with one name in a module the later
    hides the earlier. Of anything else its origin.
    """
    try:
        code = getattr(inspect.unwrap(target), "__code__", None) if callable(target) else None
    except ValueError:  # what answers for every attribute, as a lazy proxy may
        code = None
    return origin_of(target) if code is None else f"{origin_of(target)}, line {code.co_firstlineno}"


def caller(depth: int = 2) -> str:
    """Return ``module:line`` of the frame ``depth`` levels up, for things that are not functions or classes."""
    frame = inspect.currentframe()
    for _ in range(depth):
        frame = frame.f_back if frame else None
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno}" if frame else "?"


class Registry(Generic[V]):
    """Things by name, each defined in one place.

    The same place may define a name again (a reload of a file that nobody edited, a module imported twice); another
    place is an error that names both.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._items: dict[str, tuple[V, str]] = {}

    def add(self, name: str, value: V, *, origin: str) -> V:
        """Register ``value``; raises :class:`RegistrationError` when another place owns the name."""
        known = self._items.get(name)
        if known is not None and known[1] != origin:
            raise RegistrationError(
                f"the {self.noun} {name!r} is defined twice",
                why=f"{known[1]} and {origin} both define it",
                fix="Rename one of them.",
            )
        self._items[name] = (value, origin)
        return value

    def get(self, name: str) -> V | None:
        """Return the thing called ``name``, or ``None``."""
        found = self._items.get(name)
        return None if found is None else found[0]

    def __getitem__(self, name: str) -> V:
        """Return the thing called ``name``; raises :class:`RegistrationError` with a suggestion."""
        found = self.get(name)
        if found is None:
            hint = did_you_mean(name, self._items)
            raise RegistrationError(f"there is no {self.noun} {name!r}{hint}")
        return found

    def remove(self, name: str) -> None:
        """Forget ``name``; it may be unknown."""
        self._items.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[V]:
        return iter([value for value, _ in self._items.values()])

    def __len__(self) -> int:
        return len(self._items)

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._items)
