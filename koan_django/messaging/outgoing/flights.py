"""Batches of the outbox on their way to a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outbox import before_broker
from .waves import waves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from koan_django.messaging.buses.broker import BrokerBus, Outcome
    from koan_django.messaging.querysets import DueMessage

#: The broker does not answer: what follows waits.
_SILENT = frozenset({"unknown", "unsent"})


class Flight:
    """One batch, of which each key travels with one message at a time."""

    def __init__(self, bus: BrokerBus, rows: Sequence[DueMessage]) -> None:
        self.rows = rows
        self._bus = bus
        self._envelopes = [row.envelope for row in rows]
        self._waves = waves(each.partition_key for each in self._envelopes)
        self._tried: dict[int, Outcome] = {}
        #: Waits for the first wave, once that has begun.
        self._outcomes: Callable[[], list[Outcome]] | None = None

    @property
    def keys(self) -> set[str]:
        """What must not travel beside it."""
        return {each.partition_key for each in self._envelopes if each.partition_key is not None}

    def begin(self) -> None:
        """Have the first wave travel while its caller does something else."""
        before_broker()
        self._outcomes = self._bus.begin([self._envelopes[index] for index in self._waves[0]])

    def wait(self) -> None:
        """Wait until it is known what became of what has begun."""
        if self._outcomes is not None:
            self._outcomes()

    def land(self, may_go_on: Callable[[], bool]) -> list[tuple[DueMessage, Outcome]]:
        """Return what became of those that were tried: none behind one of its key that the broker has not.

        Each wave but the first is asked for.
        """
        stuck: set[str | None] = set()
        for number, wave in enumerate(self._waves):
            if number and not may_go_on():
                break
            going = [index for index in wave if self._envelopes[index].partition_key not in stuck]
            self._tried |= zip(going, self._published(going), strict=True)
            failed = [index for index in going if self._tried[index].state != "confirmed"]
            stuck |= {self._envelopes[index].partition_key for index in failed}
            if any(self._tried[index].state in _SILENT for index in failed):
                break
        return [(self.rows[index], outcome) for index, outcome in self._tried.items()]

    def _published(self, going: Sequence[int]) -> list[Outcome]:
        if self._outcomes is not None:
            outcomes, self._outcomes = self._outcomes, None
            return outcomes()
        before_broker()
        return self._bus.publish([self._envelopes[index] for index in going])
