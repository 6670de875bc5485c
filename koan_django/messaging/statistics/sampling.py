"""Takes the numbers behind the charts: what handlers did in each minute, and how much waits for each group."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import Error
from django.utils import timezone

from koan_django.core.exceptions import KoanError, LeaseLostError
from koan_django.core.leases import NamedLease, acquire
from koan_django.core.threads import DatabaseThread

from . import latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from koan_django.core import health
    from koan_django.messaging.buses.base import Bus
    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handling.verdicts import Verdict
    from koan_django.messaging.models import DepthSample, HandlerSample

logger = logging.getLogger(__name__)

#: How long samples are kept.
KEPT = timedelta(days=1)
PERIOD = timedelta(seconds=30)
#: Whoever takes the depths does so until this long after its last sign of life.
LEASE = timedelta(seconds=90)
_COUNTED = {"handled": "handled", "retry": "retried", "dead": "dead", "duplicate": "duplicates"}


class Minutes:
    """What the handlers of a bus did in each minute, kept until the minute is over and written."""

    def __init__(self, bus: str) -> None:
        self._bus = bus
        self._rows: dict[tuple[datetime, str], HandlerSample] = {}

    def note(self, judged: Iterable[tuple[Delivery, Verdict]]) -> None:
        """Count what became of deliveries, now."""
        now = timezone.now()
        minute = now.replace(second=0, microsecond=0)
        rows: dict[str, HandlerSample] = {}
        for delivery, verdict in judged:
            column = _COUNTED.get(verdict.outcome)
            if column is None or not verdict.handler:
                continue
            row = rows.get(verdict.handler)
            if row is None:
                row = rows[verdict.handler] = self._row(minute, delivery.group, verdict.handler)
            setattr(row, column, getattr(row, column) + 1)
            since = delivery.envelope.due_at
            if verdict.outcome == "handled" and since is not None:
                row.latencies[latency.bucket((now - since).total_seconds())] += 1

    def over(self, *, everything: bool = False) -> list[HandlerSample]:
        """Return unsaved rows of the minutes that are over, or of all that was counted."""
        this = timezone.now().replace(second=0, microsecond=0)
        return [row for (minute, _), row in self._rows.items() if everything or minute < this]

    def forget(self, rows: Sequence[HandlerSample]) -> None:
        """Drop what was written."""
        for row in rows:
            del self._rows[row.minute, row.handler]

    def _row(self, minute: datetime, group: str, handler: str) -> HandlerSample:
        from koan_django.messaging.models import HandlerSample

        row = self._rows.get((minute, handler))
        if row is None:
            row = HandlerSample(minute=minute, bus=self._bus, group=group, handler=handler, latencies=latency.empty())
            self._rows[minute, handler] = row
        return row


class DepthSampler(DatabaseThread):
    """Asks every bus how much waits; one worker of all does so, held by a lease."""

    def __init__(self, buses: Sequence[Bus]) -> None:
        super().__init__("koan-depths")
        self.buses = buses
        self._held: NamedLease | None = None
        self._silent: Counter[str] = Counter()

    def work(self) -> None:
        while not self.stopping.wait(PERIOD.total_seconds()):
            self.take()
        if self._held is not None:
            with self.turn():
                self._held.release()

    def finding(self) -> health.Finding | None:
        """Nothing: charts with a gap are nobody's emergency."""
        return None

    def take(self) -> None:
        """Take one sample of each group, if it is this worker's turn."""
        from koan_django.messaging.models import DepthSample

        try:
            with self.turn():
                if not self._holds():
                    return
                DepthSample.objects.bulk_create(each for bus in self.buses for each in self._depths(bus))
        except Error as error:
            logger.warning("The depths of queues could not be written: %s", error)

    def _holds(self) -> bool:
        try:
            if self._held is not None:
                self._held.renew()
                return True
        except LeaseLostError:
            self._held = None
        self._held = acquire("koan_messaging.depths", LEASE)
        return self._held is not None

    def _depths(self, bus: Bus) -> list[DepthSample]:
        """What waits on ``bus``; one that does not answer is left out, and said once."""
        from koan_django.messaging.models import DepthSample

        now = timezone.now()
        try:
            found = bus.depths()
        except (KoanError, OSError) as error:
            self._silent[bus.alias] += 1
            if self._silent[bus.alias] == 1:
                logger.warning("The bus %s does not say how much waits: %s", bus.alias, error)
            return []
        self._silent.pop(bus.alias, None)
        return [
            DepthSample(
                at=now,
                bus=bus.alias,
                group=each.group,
                waiting=_known(each.waiting),
                in_progress=_known(each.in_progress),
            )
            for each in found
        ]


def _known(count: int) -> int | None:
    return None if count < 0 else count
