"""One set of events that logging, metrics and tracing subscribe to.

A piece of work emits ``start``, then ``stop`` with its duration or ``exception`` with its error. Names are dotted and
begin with the app: ``messaging.handle``, ``storage.put``. A single fact is emitted with :func:`emit`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    Subscriber = Callable[["Event"], None]

logger = logging.getLogger(__name__)
_subscribers: list[tuple[str, Subscriber]] = []


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``duration`` is in seconds and set on ``stop`` and ``exception`` only."""

    name: str
    phase: Literal["start", "stop", "exception", "fact"]
    metadata: dict[str, Any] = field(default_factory=dict)
    duration: float | None = None
    error: BaseException | None = None


def subscribe(subscriber: Subscriber, prefix: str = "") -> Callable[[], None]:
    """Call ``subscriber`` for each event whose name begins with ``prefix``; return a function that ends it."""
    entry = (prefix, subscriber)
    _subscribers.append(entry)

    def unsubscribe() -> None:
        if entry in _subscribers:
            _subscribers.remove(entry)

    return unsubscribe


def emit(name: str, **metadata: Any) -> None:
    """Emit a single fact."""
    if _subscribers:
        _publish(Event(name, "fact", metadata))


class span:  # noqa: N801  # it is used like a function
    """Emit ``start`` and ``stop`` (or ``exception``) around the block, which may add to the yielded metadata.

    A class and no generator, and without work where nobody listens: it is around every message.
    """

    __slots__ = ("_began", "_metadata", "_name")

    def __init__(self, name: str, **metadata: Any) -> None:
        self._name = name
        self._metadata = metadata
        self._began = 0.0

    def __enter__(self) -> dict[str, Any]:
        if _subscribers:
            _publish(Event(self._name, "start", dict(self._metadata)))
            self._began = time.perf_counter()
        return self._metadata

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._began:
            duration = time.perf_counter() - self._began
            _publish(Event(self._name, "stop" if error is None else "exception", self._metadata, duration, error))


def _publish(event: Event) -> None:
    for prefix, subscriber in tuple(_subscribers):
        if event.name.startswith(prefix):
            try:
                subscriber(event)
            except Exception:
                logger.exception("A subscriber of %s failed; the work goes on", event.name)
