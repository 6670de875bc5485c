"""Asks buses how much waits, and goes on without those that do not answer in time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import connections

from koan_django.core import clock
from koan_django.core.redaction import redact_text
from koan_django.messaging.buses.base import Depth
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.buses.elected import ElectedBus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.messaging.buses.base import Bus

#: A page waits no longer for a broker.
PATIENCE_SECONDS = 3.0
#: What a broker has said counts for so long.
FRESH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bus has said; ``error`` is why it has not."""

    depths: tuple[Depth, ...] = ()
    error: str = ""


class _Question:
    """One bus being asked, on a thread of its own."""

    def __init__(self, bus: Bus) -> None:
        self.answer = Answer(error=f"it did not answer within {PATIENCE_SECONDS:g} s")
        self.asked = clock.monotonic()
        self.over = threading.Event()
        threading.Thread(target=self._ask, args=[bus], name="koan-asking", daemon=True).start()

    @property
    def is_fresh(self) -> bool:
        """Whether it need not be asked again: it is under way, or was answered a moment ago."""
        return not self.over.is_set() or clock.monotonic() - self.asked < FRESH_SECONDS

    def _ask(self, bus: Bus) -> None:
        try:
            self.answer = _asked(bus)
        finally:
            self.over.set()
            connections.close_all()


_questions: dict[int, tuple[Bus, _Question]] = {}
_lock = threading.Lock()


def answers(buses: Sequence[Bus]) -> dict[str, Answer]:
    """Return what each bus says, by alias. Brokers are asked at once, each for at most three seconds."""
    asked = {bus.alias: _question(bus) for bus in buses if is_remote(bus)}
    end = clock.monotonic() + PATIENCE_SECONDS
    for question in asked.values():
        question.over.wait(max(end - clock.monotonic(), 0))
    return {bus.alias: asked[bus.alias].answer if bus.alias in asked else _asked(bus) for bus in buses}


def is_remote(bus: Bus) -> bool:
    """Whether asking ``bus`` means asking a broker, who may not answer."""
    return isinstance(bus.current if isinstance(bus, ElectedBus) else bus, BrokerBus)


def _question(bus: Bus) -> _Question:
    with _lock:
        known = _questions.get(id(bus))
        if known is not None and known[0] is bus and known[1].is_fresh:
            return known[1]
        made = _Question(bus)
        _questions[id(bus)] = (bus, made)
        return made


def _asked(bus: Bus) -> Answer:
    try:
        return Answer(tuple(bus.depths()))
    except Exception as error:  # whatever it is, it is what the page has to say
        return Answer(error=redact_text(f"{type(error).__name__}: {error}"))
