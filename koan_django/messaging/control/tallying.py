"""Counts what the handlers of a bus do, in memory; what was counted is written every few seconds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import Error

from koan_django.core import clock
from koan_django.messaging import handlers
from koan_django.messaging.statistics.sampling import Minutes

from .registering import Counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handling.verdicts import Verdict

    from .registering import RegisteredHandlerQuerySet

logger = logging.getLogger(__name__)

#: How often counts are written: one statement for each handler that did something.
FLUSH_SECONDS = 5.0
#: How often a worker says that it has its handlers.
SEEN_SECONDS = 30.0


class Tally:
    """Owned by the consuming thread of ``bus``, which calls :meth:`flush` where it may use the database."""

    def __init__(self, bus: str) -> None:
        self._bus = bus
        self._minutes = Minutes(bus)
        self._counts: dict[str, Counts] = {}
        self._flushed = self._seen = float("-inf")
        self._failing = False

    @property
    def is_due(self) -> bool:
        """Whether something is to be written now."""
        return clock.monotonic() - self._flushed >= FLUSH_SECONDS

    def note(self, judged: Sequence[tuple[Delivery, Verdict]]) -> None:
        """Count what became of deliveries; what was only put off counts nothing."""
        self._minutes.note(judged)
        for _, verdict in judged:
            if not verdict.handler:
                continue
            counts = self._counts.get(verdict.handler)
            if counts is None:
                counts = self._counts[verdict.handler] = Counts()
            if verdict.outcome == "handled":
                counts.handled += 1
                counts.seconds += verdict.seconds
                counts.worst = max(counts.worst, verdict.seconds)
            elif verdict.outcome == "duplicate":
                counts.duplicates += 1
            elif verdict.outcome in ("retry", "dead"):
                counts.retried += verdict.outcome == "retry"
                counts.dead += verdict.outcome == "dead"
                counts.last_error = f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}"

    def flush(self, *, everything: bool = False) -> None:
        """Write what was counted; what cannot be written now is kept and written later.

        The minute that is not over is written only with ``everything``: at the end.
        """
        now = self._flushed = clock.monotonic()
        try:
            if now - self._seen >= SEEN_SECONDS:
                self._introduce()
                self._seen = now
            while self._counts:
                name, counts = next(iter(self._counts.items()))
                self._rows.add(name, counts)
                del self._counts[name]
            self._write_minutes(everything=everything)
            self._failing = False
        except Error as error:
            if not self._failing:
                logger.warning("What the handlers of %s did could not be written yet: %s", self._bus, error)
            self._failing = True

    def _write_minutes(self, *, everything: bool) -> None:
        from koan_django.messaging.models import HandlerSample

        rows = self._minutes.over(everything=everything)
        if rows:
            HandlerSample.objects.bulk_create(rows)
            self._minutes.forget(rows)

    def _introduce(self) -> None:
        """Say which handlers are here; one statement where all of them are known."""
        declared = [each for members in handlers.on_bus(self._bus).values() for each in members]
        if self._seen > float("-inf") and self._rows.seen(each.name for each in declared) == len(declared):
            return
        self._rows.declare(declared)
        self._rows.seen(each.name for each in declared)

    @property
    def _rows(self) -> RegisteredHandlerQuerySet:
        from koan_django.messaging.models import RegisteredHandler

        return RegisteredHandler.objects.all().primary()
