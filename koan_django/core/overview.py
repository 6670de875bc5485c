"""What the Overview page shows: each app registers a panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .registry import Registry, place_of


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: a label, a value, how good that is, and where to read more."""

    label: str
    value: str
    status: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A block of lines under a title, lowest ``order`` first."""

    title: str
    lines: Callable[[], Iterable[Line]]
    order: int = 50


panels: Registry[Panel] = Registry("panel")


def panel(name: str, title: str, *, order: int = 50) -> Callable[[Callable[[], Iterable[Line]]], object]:
    """Show the lines that the function returns, under ``title``."""

    def decorate(function: Callable[[], Iterable[Line]]) -> Callable[[], Iterable[Line]]:
        panels.add(name, Panel(title, function, order), origin=place_of(function))
        return function

    return decorate
