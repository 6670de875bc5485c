"""What a bus does differently when it is consumed."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from koan_django.core.redaction import redact_text
from koan_django.core.texts import counted, one_line
from koan_django.core.threads import DatabaseThread
from koan_django.messaging import events
from koan_django.messaging.control.gate import HELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from koan_django.messaging.buses.base import Bus
    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.ordering.lines import Lane, Line

    from .verdicts import Verdict

logger = logging.getLogger(__name__)

#: A delivery whose handler is held, and that could not be left where it was, comes back after so long.
HOLD = timedelta(seconds=5)


class Intake(DatabaseThread):
    """Where deliveries come from and where they go: the thread of a :class:`~.consumer.Consumer` calls all of this.

    Those of partitions do nothing where the bus has no order.
    """

    bus: Bus
    #: Of the partitions that this worker handles, the one whose turn it is first.
    lines: dict[Lane, Line]

    @property
    def hold(self) -> timedelta:
        """How long a delivery is put off whose handler is held."""
        return HOLD

    def open(self) -> None:
        """Connect and prepare; may raise."""

    def shut(self) -> None:
        """Let go of what :meth:`open` took; must not raise."""

    @abstractmethod
    def waiting_groups(self) -> Iterable[str]:
        """Return the groups that may have something to fetch."""

    @abstractmethod
    def fetch(self, group: str, limit: int) -> list[Delivery]:
        """Take up to ``limit`` deliveries of ``group``."""

    @abstractmethod
    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        """Do what the verdicts ask: delete or acknowledge, try again later, dead-letter."""

    @abstractmethod
    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Make deliveries available to others again, without counting an attempt."""

    def ready_lanes(self) -> Iterable[Lane]:
        """Return those of :attr:`lines` that may have something to fetch."""
        return ()

    def waiting_lanes(self) -> Iterable[Lane]:
        """Return the partitions in which something is due, whoever handles them."""
        return self.ready_lanes()

    def fetch_lane(self, lane: Lane, limit: int) -> list[Delivery]:
        """Take up to ``limit`` deliveries of ``lane``, in order."""
        return []

    def tend(self) -> None:
        """See to it that :attr:`lines` are those that this worker should handle; called often."""

    def blocked(self, lane: Lane, line: Line, rest: list[Delivery], verdict: Verdict) -> None:
        """The first of ``rest`` failed; none of them was handled."""
        if verdict.outcome == "retry":
            rest = [replace(rest[0], envelope=rest[0].envelope.next_attempt()), *rest[1:]]
        line.put_back(rest, verdict.wait.total_seconds())

    def passed(self, lane: Lane, line: Line) -> None:
        """The message that blocked ``lane`` is over."""

    def remembered(self, lane: Lane, delivery: Delivery) -> Delivery:
        """Return the first delivery of ``lane`` with what is known of it."""
        return delivery

    def condemned(self, lane: Lane, delivery: Delivery) -> Verdict | None:
        """Return the verdict of a delivery that somebody has decided about, or ``None``."""
        return None

    def keep(self) -> None:
        """Keep hold of what is in flight; called often."""

    @abstractmethod
    def idle(self, busy: bool) -> None:
        """Wait for something to do; ``busy`` when the last turn did something. :meth:`wake` ends the wait."""

    @abstractmethod
    def wake(self) -> None:
        """End :meth:`idle` from another thread."""

    def record(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        """Write the events of what did not go well; the rest was noted in the handler's transaction."""
        kinds = {"retry": "retried", "postpone": "postponed", "dead": "dead", "stop": "stopped"}
        events.record(
            events.event(
                kinds[verdict.outcome],
                self.bus.alias,
                delivery.envelope,
                group=delivery.group,
                handler=verdict.handler,
                detail=f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}",
            )
            for delivery, verdict in settled
            if verdict.outcome in kinds and verdict.reason != HELD
        )
        for (group, alias, why), count in Counter(_given_up(settled)).items():
            logger.warning("%s of %s for %s given up: %s", counted(count, "dead letter"), alias, group, why)


def _given_up(settled: Iterable[tuple[Delivery, Verdict]]) -> Iterator[tuple[str, str, str]]:
    """Group, alias and reason of each dead letter: many at once mostly have one reason."""
    for delivery, verdict in settled:
        if verdict.outcome == "dead":
            error = f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}"
            yield delivery.group, one_line(delivery.envelope.alias), one_line(redact_text(error), 300)
