"""The fast path: what was committed is published by the process that wrote it, and a relay does what that leaves.

A message without a key is written as *handed over*. After the commit the caller gives it to the publisher of its
process and goes on; a thread waits for the broker's answers, deletes what was confirmed and gives the rest to the
relays. They take over by themselves whatever is handed over for too long: its sender has died, or cannot say how it
ended. What has a key waits for the relay that holds its lane, or two would publish one lane.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.models import F

from koan_django.core import faults
from koan_django.core.functions import IsOneOf
from koan_django.core.threads import DatabaseThread
from koan_django.messaging import events
from koan_django.messaging.conf import options

from . import databases
from .notifying import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from koan_django.messaging.buses.base import Due
    from koan_django.messaging.buses.broker import BrokerBus, Outcome
    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope

    #: A message with the primary key of its row.
    Written = tuple[int, Envelope]
    #: Messages of one call, of a bus and a database, and what waits for their outcomes.
    _Handed = tuple[str, str, Sequence[Written], Callable[[], Sequence[Outcome]]]

logger = logging.getLogger(__name__)

#: More at once are for a relay: a request should not fill the publisher of its process.
MOST = 100
#: A transaction that took longer may have been given up by the relays already, which go by the time of the insert.
LATE_SECONDS = 1.0
#: What a relay waits beyond the time in which the broker answers.
SPARE = timedelta(seconds=2)
#: How many calls may wait for their answers; what comes on top is left to the relays.
WAITING = 1000
#: How long a process that ends waits for what it has handed over.
END_SECONDS = 2.0
_COMMITTED = faults.point("messaging.handing.committed")


def patience(bus: BusOptions) -> timedelta:
    """Return how long a message may be handed over before a relay takes it."""
    return bus.confirm_timeout + SPARE


def may_hand_over(bus: str, envelopes: Sequence[Envelope], due: Due, error: str, using: str) -> bool:
    """Whether the process publishes these by itself after the commit of the transaction that is open in ``using``."""
    if not options().buses[bus].fast_path or due is not None or error or len(envelopes) > MOST:
        return False
    connection = connections[using]
    if not connection.in_atomic_block or any(each.partition_key for each in envelopes):
        return False
    if not connection.features.can_return_rows_from_bulk_insert:  # MySQL: nobody would know which rows they are
        return False
    broker = _broker(bus)
    return broker.breaker.seen.state == "closed" and not broker.unreachable


def after_commit(bus: str, messages: Sequence[Written], using: str) -> None:
    """Hand them over once the open transaction has committed; what is rolled back is forgotten.

    They go by their rows and not by their ids: a message that is replayed to two groups has two of the same id.
    """
    transaction.on_commit(partial(_hand_over, bus, messages, using, time.monotonic()), using=using, robust=True)


def _hand_over(bus: str, messages: Sequence[Written], using: str, written: float) -> None:
    _COMMITTED()
    is_late = time.monotonic() - written > LATE_SECONDS
    envelopes = [envelope for _, envelope in messages]
    outcomes = partial(_untried, len(envelopes)) if is_late else _broker(bus).begin(envelopes)
    _handing().take((bus, using, messages, outcomes))


def _untried(count: int) -> list[Outcome]:
    from koan_django.messaging.buses.broker import Outcome

    return [Outcome("unsent")] * count


def _broker(bus: str) -> BrokerBus:
    from koan_django.messaging.buses import registry

    return registry.get(bus)  # type: ignore[return-value]  # the options have seen to it


class Handing(DatabaseThread):
    """Writes down what became of the messages that this process has handed over."""

    def __init__(self) -> None:
        super().__init__("koan-handing")
        self._pid = os.getpid()
        #: Written in C: a time limit that strikes a caller while it is in a ``queue.Queue`` would leave that locked.
        self._waiting: queue.SimpleQueue[_Handed] = queue.SimpleQueue()

    def take(self, handed: _Handed) -> None:
        """See to it that the rows follow the answers; if there is no room, the relays will."""
        if self._waiting.qsize() < WAITING:
            self._waiting.put(handed)

    def work(self) -> None:
        while not (self.stopping.is_set() and self._waiting.empty()):
            with suppress(queue.Empty):
                self._settle([self._waiting.get(timeout=0.2), *self._more()])

    def end(self) -> None:
        """At the end of the process; a fork of it has none of this."""
        if os.getpid() == self._pid:
            self.stop(END_SECONDS)

    def _more(self) -> list[_Handed]:
        """What waits as well: the database is asked once for all of it."""
        found: list[_Handed] = []
        with suppress(queue.Empty):
            while len(found) < MOST:
                found.append(self._waiting.get_nowait())
        return found

    def _settle(self, handed: Sequence[_Handed]) -> None:
        confirmed: dict[tuple[str, str], list[Written]] = defaultdict(list)
        others: dict[tuple[str, str, str], list[Written]] = defaultdict(list)
        for bus, using, messages, outcomes in handed:
            for message, outcome in zip(messages, outcomes(), strict=True):
                if outcome.state == "confirmed":
                    confirmed[bus, using].append(message)
                else:
                    others[bus, using, outcome.reason].append(message)
        try:
            with self.turn():
                for (bus, using), mine in confirmed.items():
                    _confirmed(bus, using, mine)
                for (bus, using, reason), mine in others.items():
                    _given_up(bus, using, mine, reason)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("What was published cannot be written down, and relays will publish it again: %s", error)


def _confirmed(bus: str, using: str, messages: Sequence[Written]) -> None:
    """Delete what the broker has, whoever has it by now."""
    with transaction.atomic(using=using):
        databases.rows().objects.using(using).filter(IsOneOf(F("pk"), [pk for pk, _ in messages]))._raw_delete(using)
        events.record((events.event("published", bus, envelope) for _, envelope in messages), of=using)


def _given_up(bus: str, using: str, messages: Sequence[Written], reason: str) -> None:
    """Let the relays have them, and wake one."""
    with transaction.atomic(using=using):
        rows = databases.rows().objects.using(using).handed_over(bus).filter(pk__in=[pk for pk, _ in messages])
        rows.update(state="pending", last_error=reason[:500])
        notify(bus, using)


#: By process id: a fork begins its own.
_threads: dict[int, Handing] = {}
_starting: dict[int, threading.Lock] = {}


def _handing() -> Handing:
    pid = os.getpid()
    found = _threads.get(pid)
    if found is None or not found.is_alive():
        with _starting.setdefault(pid, threading.Lock()):
            found = _threads.get(pid)
            if found is None or not found.is_alive():
                found = _threads[pid] = Handing()
                found.start()
                atexit.register(found.end)
    return found
