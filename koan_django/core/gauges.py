"""How much there is of what, now: each app says so, and whoever keeps metrics asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from django.db import connections

from .redaction import redact_text
from .registry import Registry, origin_of, place_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """One number. Labels are names that code and settings declare, never an id or a stranger's text."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


Source = Callable[[], Iterable[Reading]]
_sources: Registry[Source] = Registry("source of gauges")


def source(name: str) -> Callable[[Source], Source]:
    """Ask the function whenever somebody wants to know."""

    def decorate(function: Source) -> Source:
        return _sources.add(name, function, origin=place_of(function))

    return decorate


def readings() -> Iterator[Reading]:
    """Yield what all sources say. One that fails is logged, and leaves the others alone.

    Database connections that this opens are closed: whoever asks may do so from a new thread each time.
    """
    before = {connection.alias for connection in connections.all(initialized_only=True) if connection.connection}
    try:
        for ask in list(_sources):
            try:
                yield from list(ask())
            except Exception as error:
                logger.warning("Gauges of %s are missing: %s", origin_of(ask), redact_text(str(error)))
    finally:
        for connection in connections.all(initialized_only=True):
            if connection.alias not in before:
                connection.close()
