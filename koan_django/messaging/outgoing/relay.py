"""Publishes the outbox: a thread of the worker's bus step, or of the command ``koan_outbox_relay``.

The relays of a bus share its lanes by leases, and messages of a lane leave in the order in which they were written. One
with a key that the broker does not take holds up those behind it in its lane until it is published or parked.

No database transaction is open when messages are given to the broker, and none waits for it. While there is more than
one batch, the database works beside the broker: as one is on its way, the one before is deleted, and the next is read
and sent after it.

A relay that stood still past the end of its leases may wake up in the middle of a batch, while another publishes the
same messages. The first copies of the messages of a key are in order all the same: each begins where everything before
was confirmed, and goes past no message before the broker has confirmed it. So deleting what was confirmed is right at
any time. To put off or to park takes the lease: whoever holds the lane now would not know that it is held up.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import F

from koan_django.core import clock, faults, health, reporter
from koan_django.core.functions import IsOneOf
from koan_django.core.redaction import redact_text
from koan_django.core.telemetry import span
from koan_django.core.texts import counted, one_line
from koan_django.core.threads import DatabaseThread
from koan_django.messaging import events
from koan_django.messaging.routing import LANES

from . import databases, handing
from .flights import Flight
from .lanes import Lanes
from .outbox import BACKOFF
from .waking import Waker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.messaging.buses.broker import BrokerBus, Outcome
    from koan_django.messaging.handling.consumer import Consumer
    from koan_django.messaging.querysets import DueMessage, OutboxQuerySet

logger = logging.getLogger(__name__)

BATCH = 500
#: With more than this in a batch the next is not read beside it, since both would be in memory, and it does not travel
#: beside another, whose later waves would have to wait for it.
BESIDE_BYTES = 8 * 1024 * 1024
FRESH = timedelta(seconds=1)
STANDBY_SECONDS = 1.0
#: How often to look whether a consumer has begun.
EARLY_SECONDS = 0.05
#: A message that reaches nobody is tried so often before it is parked, over about three minutes: the worker that
#: declares the queue may still be starting.
UNROUTABLE_TRIES = 8
#: How often to look for messages that their senders have handed over and do not finish.
TAKE_OVER_SECONDS = 1.0
#: The same where none should be: the senders' settings were others before, or are.
RARELY_SECONDS = 60.0
#: After an error of the database or the broker.
PAUSE_SECONDS = 1.0
_BEFORE_PUBLISH = faults.point("messaging.relay.before_publish")
_PUBLISHED = faults.point("messaging.relay.published")


class Relay(DatabaseThread):
    """Moves due messages of one bus from the outbox of a database to the broker: those of the lanes that fall to it.

    It begins after the first of ``consumers``, those of this process, which declare the queues: messages that wait
    since before there were any would be returned and put off, and others would overtake them.
    """

    def __init__(self, bus: BrokerBus, consumers: Sequence[Consumer] = (), using: str | None = None) -> None:
        self.using = using or databases.main()
        #: What tells it from the relays of the same bus in other databases.
        self.label = bus.alias if self.using == databases.main() else f"{bus.alias}.{self.using}"
        super().__init__(f"koan-relay-{self.label}")
        self.bus = bus
        self._consumers = consumers
        self.error = ""
        self.published = 0
        #: Beyond the wait for confirms there is time to connect, and to write down what became of the messages.
        self.lease = bus.options.confirm_timeout + bus.options.lease
        self.lanes = Lanes(bus.alias, self.lease, self.using)
        self._waker = Waker(bus.alias, bus.options)
        #: Whether messages with a key may wait for another attempt: of those that were put off before, nobody knows.
        self._is_stuck = True
        #: When it is time to look for messages that were handed over and forgotten, by the monotonic clock.
        self._look_at = float("-inf")
        #: What became of the last batch and is not written down yet; what is on its way, two batches at most; and what
        #: was read and has not begun.
        self._behind: list[tuple[DueMessage, Outcome]] = []
        self._flights: list[Flight] = []
        self._ahead: list[DueMessage] = []

    def work(self) -> None:
        while self._is_early() and not self.stopping.wait(EARLY_SECONDS):
            self.error = self._consumers[0].error
        self._waker.open(self.using)
        try:
            while not self.stopping.is_set():
                self._step()
        finally:
            self._waker.close()
        self._let_go()

    def _is_early(self) -> bool:
        return bool(self._consumers) and not any(each.has_begun or not each.is_alive() for each in self._consumers)

    def _step(self) -> None:
        try:
            pause = self._round()
        except Exception as error:
            self._note(f"{type(error).__name__}: {error}")
            for flight in self._flights:
                flight.wait()
            # What the broker has and is still here goes to it once more.
            self._flights, self._ahead, self._behind = [], [], []
            self._is_stuck = True  # a lane may have been gained before it failed
            pause = PAUSE_SECONDS
        if pause is None:
            self._waker.wait()
        else:
            self._waker.stir()
            self.stopping.wait(pause)

    def drain(self) -> None:
        """End as soon as what is on its way to the broker is settled, and the lanes are given back."""
        self.stopping.set()
        self._waker.wake()

    def stop(self, timeout: float | None = None) -> None:
        self.drain()
        super().stop(timeout)

    def finding(self) -> health.Finding:
        """What this relay says about itself."""
        name = f"messaging.relay.{self.label}"
        held = len(self.lanes.held)
        state = "publishing" if held else "standing by"
        status: health.Status = "unhealthy" if self.error or not self.is_alive() else "healthy"
        return health.Finding(name, status, self.error or state, data={"published": self.published, "lanes": held})

    def _round(self) -> float | None:
        """Publish one batch; return how long to wait before the next, ``None`` when there is nothing to publish."""
        if not self._flights:
            with self.turn():
                if not self._ahead or self.lanes.is_due:
                    self._look()
                if self._ahead and not self.lanes.hold(FRESH):
                    self._catch_up()
                    return 0.0  # one of them is another's
            if not self._ahead:
                self._note("")
                return None if self.lanes.held else STANDBY_SECONDS
            self._take_off()
        flight = self._flights[0]
        with span("messaging.relay", bus=self.bus.alias, messages=len(flight.rows)):
            if self._leaves_time(flight):
                self._meanwhile(flight)
            tried = flight.land(self._may_go_on)
            _PUBLISHED()
        del self._flights[0]
        self._behind += tried
        if len(tried) < len(flight.rows) or any(outcome.state != "confirmed" for _, outcome in tried):
            self._land()
            self._ahead = []  # what is behind a message that was not taken must not overtake it
        if not self._ahead and not self._flights:
            with self.turn():
                self._catch_up()
        silent = next((outcome.reason for _, outcome in tried if outcome.state == "unsent"), "")
        self._note(silent)
        return PAUSE_SECONDS if silent else 0.0

    def _look(self) -> None:
        """See which lanes are whose, and read what is due; nothing is on its way."""
        self._catch_up()
        self._take_over()
        self._is_stuck = self.lanes.tend() or self._is_stuck
        self._ahead = self._due() if self.lanes.held else []

    def _take_off(self) -> None:
        """Have what was read travel, beside what does already."""
        _BEFORE_PUBLISH()
        flight, self._ahead = Flight(self.bus, self._ahead), []
        if self._flights or self._leaves_time(flight):
            flight.begin()
        self._flights.append(flight)

    def _leaves_time(self, flight: Flight) -> bool:
        """Whether there is something to do while it travels: more may follow at once, and there is room in memory."""
        return self.bus.begins and len(flight.rows) == BATCH and _is_light(flight.rows)

    def _meanwhile(self, flight: Flight) -> None:
        """Delete what was before ``flight``, and read what follows; have it travel too if it need not wait.

        So the broker has always something to do. What shares a key with ``flight`` waits, and so does everything when
        it is time to look at the lanes.
        """
        with self.turn():
            self._catch_up()
            self._ahead = self._due(beside=flight.rows)
            waits = not self._ahead or self.lanes.is_due or not self.lanes.hold(FRESH)
        if waits or self.stopping.is_set() or not _is_light(self._ahead):
            return
        keys = flight.keys
        if not any(row.envelope.partition_key in keys for row in self._ahead):
            self._take_off()

    def _land(self) -> None:
        """Wait for what is on its way, and have nothing follow it."""
        while self._flights:
            self._behind += self._flights[0].land(lambda: False)
            del self._flights[0]

    def _catch_up(self) -> None:
        """Write down what became of the last batch; the next is read after that."""
        behind, self._behind, self._ahead = self._behind, [], []
        if behind:
            self._apply(behind)

    def _take_over(self) -> None:
        """Look now and then for messages whose senders do not say how it ended."""
        now = clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + (TAKE_OVER_SECONDS if self.bus.options.fast_path else RARELY_SECONDS)
        taken = self._outbox.take_over(self.bus.alias, handing.patience(self.bus.options))
        if taken:
            logger.info(
                "%s of the outbox of %s had been handed over for too long", counted(taken, "message"), self.label
            )

    def _due(self, beside: Sequence[DueMessage] = ()) -> list[DueMessage]:
        outbox = self._outbox.within(self.lanes.held.keys())
        stuck = outbox.stuck(self.bus.alias) if self._is_stuck else {}
        self._is_stuck = bool(stuck)
        return outbox.due(self.bus.alias, 1 if self.error else BATCH, stuck, beside=[row.pk for row in beside])

    def _may_go_on(self) -> bool:
        """Whether there is time for another wave, and the leases hold."""
        if self.stopping.is_set():
            return False
        if self.lanes.age < self.lease.total_seconds() / 3:
            return True
        with self.turn():
            return self.lanes.hold(FRESH)

    def _apply(self, tried: Sequence[tuple[DueMessage, Outcome]]) -> None:
        confirmed = [row for row, outcome in tried if outcome.state == "confirmed"]
        with transaction.atomic(using=self.using):
            self._settle([each for each in tried if each[1].state not in ("confirmed", "unsent")])
            self._outbox.filter(IsOneOf(F("pk"), [row.pk for row in confirmed]))._raw_delete(self.using)
            self._record("published", confirmed)
        self.published += len(confirmed)

    def _settle(self, failed: Sequence[tuple[DueMessage, Outcome]]) -> None:
        """Park or put off what failed, in lanes that are held still: of the others another relay finds out itself."""
        if not failed:
            return
        outbox = self._outbox
        held = self.lanes.fence({row.lane % LANES for row, _ in failed})
        put_off: dict[tuple[timedelta, str], list[int]] = defaultdict(list)
        for row, outcome in failed:
            if row.lane % LANES not in held:
                continue
            if self._is_hopeless(row, outcome):
                outbox.park(row.pk, outcome.reason)
                self._record("parked", [row], outcome.reason)
            else:
                put_off[BACKOFF.delay(row.tries + 2), outcome.reason].append(row.pk)
        for (wait, reason), pks in put_off.items():
            outbox.put_off(pks, reason, wait)
            self._is_stuck = True

    @property
    def _outbox(self) -> OutboxQuerySet:
        from koan_django.messaging.models import OutboxMessage

        return OutboxMessage.objects.using(self.using)

    def _record(self, kind: str, rows: Sequence[DueMessage], detail: str = "") -> None:
        found = (events.event(kind, self.bus.alias, row.envelope, detail=detail) for row in rows)
        events.record(found, of=self.using)

    def _is_hopeless(self, row: DueMessage, outcome: Outcome) -> bool:
        return outcome.state == "impossible" or (outcome.state == "returned" and row.tries + 1 >= UNROUTABLE_TRIES)

    def _let_go(self) -> None:
        self._land()
        try:
            with self.turn():
                self._catch_up()
                self.lanes.leave()
        except (DatabaseError, InterfaceError) as error:  # the leases end by themselves
            logger.warning("The lanes of %s could not be given back: %s", self.label, error)

    def _note(self, trouble: str) -> None:
        trouble = one_line(redact_text(trouble))
        if trouble == self.error:
            return
        self.error = trouble
        reporter.hurry()
        if trouble:
            logger.warning("The outbox of %s is not published: %s; trying again", self.label, trouble)


def _is_light(rows: Sequence[DueMessage]) -> bool:
    return sum(len(row.envelope.body) for row in rows) <= BESIDE_BYTES
