"""One set of events that logging, metrics and tracing subscribe to.

A piece of work emits ``start``, then ``stop`` with its duration or ``exception`` with its error. Names are dotted and
begin with the app: ``messaging.handle``, ``storage.put``. A single fact is emitted with :func:`emit`.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@contextmanager
def span(name: str, **metadata: Any) -> Iterator[dict[str, Any]]:
    """Emit ``start`` and ``stop`` (or ``exception``) around the block, which may add to the yielded metadata."""
    if not _subscribers:
        yield metadata
        return
    _publish(Event(name, "start", dict(metadata)))
    began = time.perf_counter()
    try:
        yield metadata
    except BaseException as error:
        _publish(Event(name, "exception", metadata, time.perf_counter() - began, error))
        raise
    _publish(Event(name, "stop", metadata, time.perf_counter() - began))


def _publish(event: Event) -> None:
    for prefix, subscriber in tuple(_subscribers):
        if event.name.startswith(prefix):
            try:
                subscriber(event)
            except Exception:
                logger.exception("A subscriber of %s failed; the work goes on", event.name)
