"""Points where a test may have something go wrong: raise, wait, or end the process in the worst moment.

A module declares its points (``_PUBLISHED = faults.point("messaging.relay.published")``) and passes them
(``_PUBLISHED()``). Nothing arms them but the test kit, and one that is not armed costs a look at an attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Action = Callable[[], None]

_points: dict[str, Point] = {}
#: By name, since a test may arm what no module has declared yet.
_armed: dict[str, Action] = {}


class Point:
    """One point. Calling it does nothing, or what a test has armed it with."""

    __slots__ = ("action", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.action: Action | None = _armed.get(name)

    def __call__(self) -> None:
        """Pass the point."""
        if self.action is not None:
            self.action()


def point(name: str) -> Point:
    """Declare the point called ``name``, ``<app>.<where>.<moment>``."""
    return _points.setdefault(name, Point(name))


def names() -> list[str]:
    """Return the names of the points that the imported modules declare."""
    return sorted(_points)


def arm(name: str, action: Action | None) -> Action | None:
    """Have ``action`` run whenever the point is passed, ``None`` for nothing; return what ran before."""
    before = _armed.pop(name, None)
    if action is not None:
        _armed[name] = action
    if name in _points:
        _points[name].action = action
    return before
