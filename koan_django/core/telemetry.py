"""One set of events that logging, metrics and tracing subscribe to.

A piece of work emits ``start``, then ``stop`` with its duration or ``exception`` with its error. Names are dotted and
begin with the app: ``messaging.handle``, ``storage.put``. A single fact is emitted with :func:`emit`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    Phase = Literal["start", "stop", "exception", "fact"]
    Subscriber = Callable[["Event"], None]
    Wants = Callable[[str, Phase], bool]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``duration`` is in seconds and set on ``stop`` and ``exception`` only."""

    name: str
    phase: Phase
    metadata: dict[str, Any] = field(default_factory=dict)
    duration: float | None = None
    error: BaseException | None = None


class _Subscription(NamedTuple):
    prefix: str
    subscriber: Subscriber
    wants: Wants | None


_subscriptions: list[_Subscription] = []
#: Those that hear a name. Names are few, and asked for with each message. It is replaced, not cleared: whoever fills
#: the old one at that moment does no harm.
_by_name: dict[str, tuple[_Subscription, ...]] = {}


def subscribe(subscriber: Subscriber, prefix: str = "", *, wants: Wants | None = None) -> Callable[[], None]:
    """Call ``subscriber`` for each event whose name begins with ``prefix``; return a function that ends it.

    ``wants`` is asked with the name and the phase first: an event that nobody wants is not made.
    """
    entry = _Subscription(prefix, subscriber, wants)
    _subscriptions.append(entry)
    _forget_who_hears()

    def unsubscribe() -> None:
        if entry in _subscriptions:
            _subscriptions.remove(entry)
            _forget_who_hears()

    return unsubscribe


def _forget_who_hears() -> None:
    global _by_name
    _by_name = {}


def emit(name: str, **metadata: Any) -> None:
    """Emit a single fact."""
    _publish(name, "fact", metadata)


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
        _publish(self._name, "start", self._metadata)
        self._began = time.perf_counter()
        return self._metadata

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        duration = time.perf_counter() - self._began
        _publish(self._name, "stop" if error is None else "exception", self._metadata, duration, error)


def _publish(
    name: str,
    phase: Phase,
    metadata: dict[str, Any],
    duration: float | None = None,
    error: BaseException | None = None,
) -> None:
    known = _by_name
    heard = known.get(name)
    if heard is None:
        heard = known[name] = tuple(each for each in _subscriptions if name.startswith(each.prefix))
    event: Event | None = None
    for _, subscriber, wants in heard:
        try:
            if wants is not None and not wants(name, phase):
                continue
            # Of a start a copy: the block may add to its metadata.
            event = event or Event(name, phase, dict(metadata) if phase == "start" else metadata, duration, error)
            subscriber(event)
        except Exception:
            logger.exception("A subscriber of %s failed; the work goes on", name)
