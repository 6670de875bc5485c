"""``drain``: handle everything that waits, here and now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import takewhile
from textwrap import indent
from typing import TYPE_CHECKING, Any, TypeVar

from koan_django.core.suggestions import did_you_mean
from koan_django.core.texts import counted
from koan_django.messaging import handlers
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.database import DatabaseBus
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.buses.memory import MemoryBus
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.exceptions import MessagingError, UnreadableMessageError
from koan_django.messaging.handling.invocation import handle
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.messages import Message
from koan_django.messaging.ordering.lines import OVER

from . import commits, unrest
from .capturing import check_fields, described, matches

if TYPE_CHECKING:
    from collections.abc import Callable

    from koan_django.messaging.buses.base import Batch, Bus
    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handling.consumer import Consumer
    from koan_django.messaging.ordering.lines import Lane

M = TypeVar("M", bound=Message)

#: More than any test means: a handler sends what it receives.
LIMIT = 10_000
#: The time of SQLite has milliseconds: what is due now may not be until the next one.
_MOMENT = timedelta(milliseconds=1)
#: What goes back to a partition is before all that is left in it, also where that is in the order of its times.
_BEFORE_ALL = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Handling:
    """One message that one group was given, and how that ended. ``error`` is empty when it went well."""

    bus: str
    group: str
    handler: str
    envelope: Envelope
    error: str = ""
    reason: str = ""
    #: Of the error, with the lines of the handler.
    traceback: str = field(default="", repr=False)

    def __str__(self) -> str:
        envelope = self.envelope
        where = f"{envelope.alias} {envelope.id} in the group {self.group!r}, attempt {envelope.attempt}"
        return f"{where}: {self.error} ({self.reason})" if self.reason else f"{where}: {self.error}".rstrip(": ")


@dataclass(frozen=True, slots=True)
class Drained:
    """What ``drain()`` did, in order. ``left`` counts what waits for a later time."""

    handled: tuple[Handling, ...] = ()
    duplicates: tuple[Handling, ...] = ()
    retried: tuple[Handling, ...] = ()
    postponed: tuple[Handling, ...] = ()
    dead: tuple[Handling, ...] = ()
    left: int = 0

    def __len__(self) -> int:
        """How many were handled."""
        return len(self.handled)

    def did_handle(self, kind: type[M], count: int | None = None, /, *, group: str = "", **fields: Any) -> M:
        """Return the first handled message of ``kind`` whose fields have these values, of ``group`` if it is given.

        Each group counts for itself. Raises ``AssertionError`` when there is none, or when there are not ``count``.
        """
        return self._found("handled", self.handled, kind, count, group, fields)

    def did_not_handle(self, kind: type[Message], /, *, group: str = "", **fields: Any) -> None:
        """Raise ``AssertionError`` if a message of ``kind`` with these values was handled, in ``group`` if given."""
        found = self._matching(self.handled, kind, group, fields)
        if found:
            raise AssertionError(f"handled {len(found)} {described(kind, fields)}: {found[0]!r}")

    def did_give_up(self, kind: type[M], count: int | None = None, /, *, group: str = "", **fields: Any) -> M:
        """As :meth:`did_handle`, of what became a dead letter."""
        return self._found("gave up", self.dead, kind, count, group, fields)

    def _found(
        self, verb: str, among: tuple[Handling, ...], kind: type[M], count: int | None, group: str, fields: Any
    ) -> M:
        found = self._matching(among, kind, group, fields)
        if not found or (count is not None and len(found) != count):
            wanted = "at least one" if count is None else str(count)
            where = f" in the group {group!r}" if group else ""
            raise AssertionError(
                f"{verb} {len(found)} {described(kind, fields)}{where}, not {wanted}. {self._but(verb, among)}"
            )
        return found[0]

    def _but(self, verb: str, among: tuple[Handling, ...]) -> str:
        """Say what happened instead: to the others of that end, and to those of another."""
        told = [f"It was: {', '.join(map(_brief, among)) or 'nothing'}."]
        for word, others in (("handled", self.handled), ("gave up", self.dead), ("retried", self.retried)):
            if others and word != verb:
                told.append(f"It {word}: {', '.join(_brief(each, why=True) for each in others)}.")
        return " ".join(told)

    def _matching(self, among: tuple[Handling, ...], kind: type[M], group: str, fields: dict[str, Any]) -> list[M]:
        check_fields(kind, fields)
        known = {each.group for each in handlers.every()} | {each.group for each in self.handled + self.dead}
        if group and group not in known:
            raise ValueError(f"no handler is in the group {group!r}{did_you_mean(group, known) or '.'}")
        return _matching(among, kind, group, fields)


def _brief(handling: Handling, *, why: bool = False) -> str:
    text = f"{handling.envelope.alias} in {handling.group!r}"
    return f"{text} ({handling.error})" if why and handling.error else text


class DeadLettersError(AssertionError):
    """Messages ended as dead letters, and the test has not said that they may. ``drained`` is what else happened."""

    def __init__(self, drained: Drained) -> None:
        lines = [f"  {each}" for each in drained.dead]
        count = len(lines)
        # One of each cause: a hundred messages mostly have one.
        lines += dict.fromkeys(
            indent(f"\n{each.traceback.rstrip()}", "    ") for each in drained.dead if each.traceback
        )
        super().__init__(
            "\n".join([f"{counted(count, 'message became a dead letter', 'messages became dead letters')}:", *lines])
            + "\nIf that is what you test, call drain(allow_dead=True)."
        )
        self.drained = drained


def drain(bus: str | None = None, *, retries: bool = True, allow_dead: bool = False, limit: int = LIMIT) -> Drained:
    """Run the handlers of all that waits on the database and memory buses, or on ``bus``, until nothing is due.

    They run in this thread, as in a worker: transaction, inbox, middleware and retries included. In a ``TestCase``
    what waits for its commit (``transaction.on_commit``) runs first. A delayed message waits until its time has come.

    Retries follow at once; with ``retries=False`` they wait for their time, as with a frozen clock one may want.

    Raises :class:`DeadLettersError` when something ended as a dead letter, unless ``allow_dead``;
    :class:`MessagingError` inside an open transaction, for a bus on a broker, and after ``limit`` deliveries.
    """
    open_on = commits.uncommitted()
    if open_on:
        raise MessagingError(
            "drain() was called inside a transaction",
            why=f"what the open block of atomic() on {', '.join(open_on)} has sent may still roll back",
            fix="Call it after the block.",
        )
    chosen = [registry.get(bus)] if bus else [each for each in registry.all_buses() if not each.options.is_for_tasks]
    return _Drain([_checked(each) for each in chosen], retries, limit).run(allow_dead=allow_dead)


class _Drain:
    def __init__(self, buses: list[Bus], retries: bool, limit: int) -> None:
        self._buses = buses
        self._consumers = [each.consumer(_NoPool()) for each in buses]
        self._retries = retries
        self._limit = self._room = limit
        self._outcomes: dict[str, list[Handling]] = defaultdict(list)
        #: Partitions in which something waits for its time, or for somebody's decision.
        self._held_up: set[tuple[Consumer, Lane]] = set()

    def run(self, *, allow_dead: bool) -> Drained:
        commits.run_callbacks()
        while any(self._round(consumer) for consumer in self._consumers):
            pass
        drained = Drained(
            handled=tuple(self._outcomes["handled"]),
            duplicates=tuple(self._outcomes["duplicate"]),
            retried=tuple(self._outcomes["retry"]),
            postponed=tuple(self._outcomes["postpone"]),
            dead=tuple(self._outcomes["dead"]),
            left=sum(depth.waiting + max(depth.in_progress, 0) for bus in self._buses for depth in bus.depths()),
        )
        if drained.dead and not allow_dead:
            raise DeadLettersError(drained)
        return drained

    def _round(self, consumer: Consumer) -> bool:
        """Give each group and partition of a bus what waits for it; ``False`` when nothing does."""
        worked = False
        for group in unrest.current().shuffled(list(consumer.waiting_groups())):
            deliveries = consumer.fetch(group, consumer.bus.options.batch)
            worked = bool(deliveries) or worked
            judged = self._judged(consumer, group, unrest.current().shuffled(deliveries))
            self._settle(consumer, [(each, self._timed(verdict)) for each, verdict in judged])
            commits.run_callbacks()
        for lane in unrest.current().shuffled(list(consumer.waiting_lanes())):
            if (consumer, lane) not in self._held_up:
                worked = self._follow(consumer, lane) or worked
                commits.run_callbacks()
        return worked

    def _follow(self, consumer: Consumer, lane: Lane) -> bool:
        """Handle what waits in a partition, in its order, up to the first message that is not over."""
        deliveries = consumer.fetch_lane(lane, consumer.bus.options.batch)
        judged = self._judged(consumer, lane.group, deliveries)
        over = list(takewhile(lambda pair: pair[1].outcome in OVER, judged))
        self._settle(consumer, over)
        if len(over) == len(judged):
            return bool(deliveries)
        rest = deliveries[len(over) :]
        _, verdict = judged[len(over)]
        at_once = verdict.outcome == "retry" and self._retries
        if verdict.outcome == "stop":
            consumer.give_back(rest)
        else:
            wait = -_BEFORE_ALL if at_once else verdict.wait
            behind = ((each, Verdict("again", wait=wait)) for each in rest[1:])
            consumer.settle([(rest[0], replace(verdict, wait=wait)), *behind])
        if not at_once:
            self._held_up.add((consumer, lane))
        return True

    def _judged(self, consumer: Consumer, group: str, deliveries: list[Delivery]) -> list[tuple[Delivery, Verdict]]:
        """Run the handlers."""
        self._room -= len(deliveries)
        if self._room < 0:
            consumer.give_back(deliveries)
            raise MessagingError(
                f"drain() is not done after {self._limit} deliveries",
                why="handlers go on sending messages that they receive themselves",
                fix="End the circle, or give a higher limit=.",
            )
        judged = list(zip(deliveries, handle(consumer.bus.alias, group, deliveries), strict=True))
        self._note(judged)
        return judged

    def _settle(self, consumer: Consumer, judged: list[tuple[Delivery, Verdict]]) -> None:
        died = [delivery for delivery, verdict in judged if _went_well(verdict) and unrest.current().kills(delivery)]
        consumer.settle([(each, verdict) for each, verdict in judged if each not in died])
        consumer.give_back(died)
        for delivery, verdict in judged:
            if _went_well(verdict):
                unrest.current().repeat(delivery)

    def _timed(self, verdict: Verdict) -> Verdict:
        at_once = self._retries and verdict.outcome == "retry"
        return replace(verdict, wait=-_MOMENT) if at_once else verdict

    def _note(self, judged: list[tuple[Delivery, Verdict]]) -> None:
        for delivery, verdict in judged:
            error = f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}" if verdict.error_type else ""
            stopped = verdict.outcome == "stop"
            self._outcomes["dead" if stopped else verdict.outcome].append(
                Handling(
                    delivery.bus,
                    delivery.group,
                    verdict.handler,
                    delivery.envelope,
                    error,
                    "stopped" if stopped else verdict.reason,
                    verdict.traceback,
                )
            )


class _NoPool:
    """Consumers ask for a pool; this one's thread is never started."""

    size = 1

    def submit(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> bool:
        return False


def _went_well(verdict: Verdict) -> bool:
    return verdict.outcome == "handled"


def _checked(bus: Bus) -> Bus:
    found = bus.current if isinstance(bus, ElectedBus) else bus
    if isinstance(found, DatabaseBus | MemoryBus):
        return found
    raise MessagingError(
        f"drain() cannot empty the bus {bus.alias!r}",
        why="it is on a broker, which other processes may consume",
        fix=f'In tests: override_koan(MESSAGING={{"BUSES": {{"{bus.alias}": {{"URL": "database://"}}}}}}).',
    )


def _matching(among: tuple[Handling, ...], kind: type[M], group: str, fields: dict[str, Any]) -> list[M]:
    """Return the messages of ``kind``; one whose body cannot be read has no fields."""
    found = []
    for each in among:
        if each.envelope.alias != kind._meta.alias or group not in ("", each.group):
            continue
        try:
            message = each.envelope.decode(kind)
        except UnreadableMessageError:
            continue
        if matches(message, fields):
            found.append(message)
    return found
