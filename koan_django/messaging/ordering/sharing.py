"""Consumers whose partitions are shared with other workers by leases."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError
from msgspec.structs import replace

from koan_django.core.texts import counted
from koan_django.messaging.handling.consumer import Consumer
from koan_django.messaging.handling.verdicts import Verdict

from .lines import Line
from .shares import Shares

if TYPE_CHECKING:
    from koan_django.messaging.buses.base import Bus, Pool
    from koan_django.messaging.envelope import Delivery

    from .lines import Lane

logger = logging.getLogger(__name__)


class SharingConsumer(Consumer):
    """Handles the partitions that :class:`~.shares.Shares` gives it."""

    def __init__(self, bus: Bus, pool: Pool) -> None:
        super().__init__(bus, pool)
        #: Every partition is given up for now.
        self.suspended = False
        self.shares = Shares(bus.label, sorted(self.ordered), bus.options.partitions, bus.options.lease)

    # what a bus does differently

    @abstractmethod
    def open_lane(self, lane: Lane) -> None:
        """Begin to fetch from ``lane``."""

    @abstractmethod
    def close_lane(self, lane: Lane) -> None:
        """Fetch no more from ``lane``; what was fetched and not handled goes back in its order."""

    def is_settled(self, lane: Lane) -> bool:
        """Whether nothing of ``lane`` is still being settled."""
        return True

    # lines

    def tend(self) -> None:
        if not self.shares.groups:
            return
        if self.shares.is_expired:
            logger.warning("The leases on %s of %s have ended", counted(len(self.lines), "partition"), self.bus.alias)
            self._drop(list(self.lines))
            self.shares.forget()
        if self.draining.is_set() or self.suspended:
            for line in self.lines.values():
                line.leaving = True
        elif self.shares.is_due:
            self._look()
        for lane, line in list(self.lines.items()):
            if line.leaving and not line.running and self.is_settled(lane):
                self._leave(lane)

    def _look(self) -> None:
        try:
            with self.turn():
                gained, surplus, lost = self.shares.look()
        except (DatabaseError, InterfaceError) as error:
            self.note_away(error)
            return
        self._drop(lost)
        for lane in surplus:
            self.lines[lane].leaving = True
        for lane in gained:
            line = self.lines[lane] = Line()
            line.blocked_by = self.shares.held[lane].message_id
            self.open_lane(lane)
        self.stopped = f"stopped: {', '.join(map(str, self.shares.stopped))}" if self.shares.stopped else ""

    def _drop(self, lanes: list[Lane]) -> None:
        """Somebody else may have these by now."""
        for lane in lanes:
            self.shares.held.pop(lane, None)
            if self.lines.pop(lane, None) is not None:
                self.close_lane(lane)

    def _leave(self, lane: Lane) -> None:
        del self.lines[lane]
        self.close_lane(lane)
        try:
            with self.turn():
                self.shares.give_up(lane)
        except (DatabaseError, InterfaceError) as error:  # its lease ends by itself
            self.note_away(error)

    def shut(self) -> None:
        """Give up all but what still runs: of that the leases end by themselves."""
        running = [lane for lane, line in self.lines.items() if line.running]
        self.lines.clear()
        if self.shares.groups:
            try:
                with self.turn():
                    self.shares.leave(running)
            except (DatabaseError, InterfaceError) as error:
                self.note_away(error)

    def unfinished(self) -> bool:
        return super().unfinished() or bool(self.lines)

    def blocked(self, lane: Lane, line: Line, rest: list[Delivery], verdict: Verdict) -> None:
        super().blocked(lane, line, rest, verdict)
        line.leaving = line.leaving or verdict.outcome == "stop"
        try:
            with self.turn():
                self.shares.block(lane, rest[0], verdict)
                self.record([(rest[0], verdict)])
        except (DatabaseError, InterfaceError) as error:
            self.note_away(error)

    def passed(self, lane: Lane, line: Line) -> None:
        try:
            with self.turn():
                self.shares.unblock(lane)
        except (DatabaseError, InterfaceError) as error:
            self.note_away(error)

    def remembered(self, lane: Lane, delivery: Delivery) -> Delivery:
        """With the attempts that others made before they left."""
        row = self.shares.held.get(lane)
        if row is None or not row.message_id or delivery.envelope.id != row.message_id:
            return delivery
        return replace(delivery, envelope=replace(delivery.envelope, attempt=row.attempt))

    def condemned(self, lane: Lane, delivery: Delivery) -> Verdict | None:
        row = self.shares.held.get(lane)
        if row is None or not row.skip or delivery.envelope.id != row.message_id:
            return None
        kind, _, error = row.error.partition(": ")
        return Verdict("dead", handler=row.handler, reason="exhausted", error_type=kind, error=error)

    def note_away(self, error: Exception) -> None:
        logger.warning("What partitions of %s do could not be written: %s", self.bus.alias, error)
