"""Elects the bus of a project that gives none a URL: a thread of the worker's main process.

The database is consumed from the start. A broker is proclaimed once its queues are declared and consumed here, so that
nobody sends to where nobody receives; the database is consumed on, for what was sent before and for senders that know
nothing of the broker.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import Error

from koan_django.core import boot, facts, health
from koan_django.core.election import Election, proclaim
from koan_django.core.telemetry import emit
from koan_django.core.threads import DatabaseThread
from koan_django.messaging import lifecycle
from koan_django.messaging.buses import registry
from koan_django.messaging.candidates import DATABASE, VARIABLES
from koan_django.messaging.conf import BusOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from koan_django.core.election import Result
    from koan_django.messaging.buses.base import Bus
    from koan_django.messaging.buses.elected import ElectedBus
    from koan_django.messaging.handling.consumer import Consumer

logger = logging.getLogger(__name__)

#: How often what is elected gives a sign of life.
PERIOD_SECONDS = 10.0
#: How long a broker that answers may take until its queues are consumed.
CONSUMING_SECONDS = 10.0


class Elector(DatabaseThread):
    """Elects for ``bus``. ``adopt`` starts to consume and to relay a broker's bus, or returns its consumer again."""

    def __init__(self, bus: ElectedBus, adopt: Callable[[Bus], Consumer]) -> None:
        super().__init__(f"koan-elector-{bus.alias}")
        self.bus = bus
        self._adopt = adopt
        self._result: Result[str] | None = None
        self._consumer: Consumer | None = None
        brokers = list(bus.candidates.values())
        self._places = {each.name: place for place, each in enumerate(brokers)}
        self._election = Election([*brokers, DATABASE], _probe)

    def work(self) -> None:
        for result in self._election.rounds(self.pause):
            self._take(result)
        while not self.stopping.wait(PERIOD_SECONDS):
            self._proclaim()

    def pause(self, seconds: float) -> bool:
        """Wait before the next round; true when this thread is to end."""
        return self.stopping.wait(seconds)

    def finding(self) -> health.Finding:
        """Degraded while a broker that somebody has named is not live."""
        name = f"messaging.election.{self.bus.alias}"
        result = self._result
        if result is None:
            return health.Finding(name, "degraded", "electing")
        named = {each.name for each in self.bus.candidates.values() if each.origin.endswith(VARIABLES)}
        silent = "; ".join(f"{a.name}: {a.reason}" for a in result.alternatives if a.name in named)
        if result.is_settled or not silent:
            return health.Finding(name, "healthy", f"elected {self._elected}")
        return health.Finding(name, "degraded", f"elected {self._elected}; {silent}")

    @property
    def _elected(self) -> str:
        return self._result.selected.name if self._result and self._result.selected else "nothing"

    def _take(self, result: Result[str]) -> None:
        """Go by what was elected; a broker that answers and cannot be consumed yet is proclaimed once it is."""
        if self.stopping.is_set():
            return
        selected = result.selected
        if selected is not None and selected.name in self.bus.candidates:
            broker = self.bus.broker(selected.name)
            if self._elected != selected.name:
                with self.turn():
                    lifecycle.move(broker, "consuming", "elected", f"{selected.origin}, priority {selected.priority}")
            self._consumer = self._adopt(broker)
            self._wait_for(self._consumer)
        before, self._result = self._elected, result
        facts.record(result.fact(self.bus.subject))
        if self._elected != before:
            logger.info("The bus %s is %s", self.bus.alias, self._elected)
            emit("messaging.elected", bus=self.bus.alias, selection=self._elected)
            with self.turn():
                boot.publish()
        self._proclaim()

    def _wait_for(self, consumer: Consumer) -> None:
        for _ in range(int(CONSUMING_SECONDS / 0.05)):
            if consumer.consuming or self.stopping.wait(0.05):
                return

    def _proclaim(self) -> None:
        """Give the sign of life, unless the broker has gone: then the others may elect something else."""
        selected = self._result.selected if self._result else None
        if selected is None or (selected is not DATABASE and not (self._consumer and self._consumer.consuming)):
            return
        try:
            with self.turn():
                proclaim(self.bus.subject, selected, self._places.get(selected.name, 0))
        except Error as error:
            logger.warning("What was elected for %s could not be written: %s", self.bus.alias, error)


def _probe(url: str) -> None:
    """Raise unless the bus of ``url`` answers and lets us in."""
    options = BusOptions(url=url)  # raises for a scheme that no bus has
    if options.scheme != "database":
        registry.make("probe", options).probe()
