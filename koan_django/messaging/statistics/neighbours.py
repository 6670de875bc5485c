"""What other apps add to ``koan_status``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from koan_django.core.registry import Registry, place_of


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One app: ``text`` in a line, the same as ``figures``, and what somebody should look at."""

    name: str
    text: str
    figures: Mapping[str, Any]
    troubles: tuple[str, ...] = ()


_sources: Registry[Callable[[], Neighbour]] = Registry("source of koan_status")


def neighbour(name: str) -> Callable[[Callable[[], Neighbour]], Callable[[], Neighbour]]:
    """Ask the function whenever ``koan_status`` runs."""

    def decorate(function: Callable[[], Neighbour]) -> Callable[[], Neighbour]:
        return _sources.add(name, function, origin=place_of(function))

    return decorate


def neighbours() -> list[Neighbour]:
    """Ask all of them."""
    return [ask() for ask in _sources]
