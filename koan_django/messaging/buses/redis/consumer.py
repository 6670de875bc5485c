"""Consumes a bus on Redis.

What is fetched stays in its stream, held by this consumer, until its handler's transaction is over and any retry or
dead letter is written. A lease keeps others from taking it meanwhile; it is renewed here, so what a killed worker held
goes to others when the lease ends. A lost connection takes nothing away.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import DatabaseError

from koan_django.core import clock, process
from koan_django.core.texts import counted
from koan_django.messaging import handlers
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.handling.burial import bury, given_up
from koan_django.messaging.handling.consumer import Consumer

from . import bindings, fields, scripts
from .bell import Bell
from .server import moved_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from koan_django.messaging.buses.base import Pool
    from koan_django.messaging.handling.verdicts import Verdict

    from .bus import RedisBus

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0


class Ref(NamedTuple):
    """How a delivery is known to its group: the number of the stream, and the entry's id."""

    stream: int
    id: str


class RedisConsumer(Consumer):
    """The consuming thread of one bus in a worker's main process."""

    bus: RedisBus

    def __init__(self, bus: RedisBus, pool: Pool) -> None:
        super().__init__(bus, pool)
        #: Who holds what this thread has fetched.
        self.holder = f"{process.identity()}:{uuid.uuid4().hex[:8]}"
        self._lease = bus.options.lease
        self._held: dict[tuple[str, Ref], Delivery] = {}
        self._dead: list[tuple[Delivery, Verdict]] = []
        self._bury_at = 0.0
        self._renewed = clock.monotonic()
        self._claim_at: dict[str, float] = {}
        self._bell = Bell()

    def open(self) -> None:
        self.bus.server.examine()
        self.advance("connected")
        for group, members in handlers.on_bus(self.bus.alias).items():
            bindings.bind(self.bus.server, self.bus.names, group, [member.binding for member in members])
        with self.bus.server.answering():
            self._bell.listen(self.bus.server.client, self.bus.names.bell)

    def shut(self) -> None:
        self._bell.deafen()
        if self._is_over():
            for group in self.groups:
                with contextlib.suppress(Exception):
                    self._run(scripts.LEAVE, group, [], self.holder)

    # fetching

    def waiting_groups(self) -> Iterable[str]:
        return list(self.groups)

    def fetch(self, group: str, limit: int) -> list[Delivery]:
        found = self._claim(group, limit) if self._is_time_to_claim(group) else []
        if len(found) < limit:
            names = self.bus.names
            keys = [names.later(group), names.asleep]
            entries = self._run(scripts.FETCH, group, keys, self.holder, limit - len(found), moved_time())
            found += [self._delivery(group, entry) for entry in entries]
        self._held |= {(group, each.ref): each for each in found}
        return found

    def _is_time_to_claim(self, group: str) -> bool:
        now = clock.monotonic()
        if now < self._claim_at.get(group, 0.0):
            return False
        self._claim_at[group] = now + self._third
        return True

    def _claim(self, group: str, limit: int) -> list[Delivery]:
        """Take what others have held for longer than a lease; what ends every worker is given up."""
        entries = self._run(scripts.CLAIM, group, [], self.holder, self._milliseconds, limit)
        found = [(self._delivery(group, entry), entry[3]) for entry in entries]
        fresh = [(each, times) for each, times in found if (group, each.ref) not in self._held]
        limit = self.bus.options.delivery_limit
        for each in (each for each, times in fresh if times > limit):
            self._held[group, each.ref] = each
            self._dead.append((each, given_up(self.bus, each)))
        return [each for each, times in fresh if times <= limit]

    def _delivery(self, group: str, entry: Sequence[Any]) -> Delivery:
        number, identifier, pairs = entry[:3]
        return Delivery(fields.from_fields(pairs, group), self.bus.alias, group, ref=Ref(number, identifier.decode()))

    # holding

    def keep(self) -> None:
        if self._dead and clock.monotonic() >= self._bury_at:
            self._bury()
        if clock.monotonic() - self._renewed >= self._third:
            self._renewed = clock.monotonic()
            for group, held in self._by_group(self._held.values()).items():
                for lost in self._hold(group, held):
                    self._held.pop((group, lost), None)

    def _hold(self, group: str, deliveries: Sequence[Delivery]) -> list[Ref]:
        """Renew the lease of deliveries; return those that somebody else has now."""
        lost = self._run(scripts.KEEP, group, [], self.holder, *_refs(deliveries))
        return [Ref(number, identifier.decode()) for number, identifier in lost]

    def idle(self, busy: bool) -> None:
        with self.bus.server.answering():
            self._bell.wait(0 if busy else self.bus.options.poll_interval.total_seconds())

    def wake(self) -> None:
        self._bell.ring()

    def unfinished(self) -> bool:
        return super().unfinished() or bool(self._dead)

    # settling

    def settle(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        over = [d for d, v in settled if v.outcome in ("handled", "duplicate")]
        self._finish(over)
        self.give_back([d for d, v in settled if v.outcome == "again"])
        put_off = [(d, v) for d, v in settled if v.outcome in ("retry", "postpone") and self._put_off(d, v)]
        self._dead += [(d, v) for d, v in settled if v.outcome == "dead" and (d, v) not in self._dead]
        self._note_troubled(put_off)
        if self._dead:
            self._bury()

    def _finish(self, deliveries: Sequence[Delivery]) -> None:
        for group, mine in self._by_group(deliveries).items():
            self._run(scripts.FINISH, group, [], *_refs(mine))
        self._drop(deliveries)

    def _put_off(self, delivery: Delivery, verdict: Verdict) -> bool:
        envelope = delivery.envelope.next_attempt() if verdict.outcome == "retry" else delivery.envelope
        wait = int(verdict.wait.total_seconds() * 1000)
        changed = (fields.ID, envelope.id, fields.ATTEMPT, envelope.attempt)
        arguments = (self.holder, *delivery.ref, wait, moved_time(), *changed)
        done = self._run(scripts.PUT_OFF, delivery.group, [self.bus.names.later(delivery.group)], *arguments)
        self._drop([delivery])
        return bool(done)

    def _bury(self) -> None:
        """Write dead letters, then let go of their messages; while the database is away they are held."""
        lost: set[tuple[str, Ref]] = set()
        for group, mine in self._by_group(each for each, _ in self._dead).items():
            lost |= {(group, ref) for ref in self._hold(group, mine)}
        self._dead = [(d, v) for d, v in self._dead if (d.group, d.ref) not in lost]
        buried, trouble = bury(self.bus.alias, self.turn, self._dead)
        if trouble and trouble != self.trouble:
            logger.warning("%s", trouble)
        self.trouble = trouble
        self._finish(buried)
        gone = {(each.group, each.ref) for each in buried}
        self._dead = [(d, v) for d, v in self._dead if (d.group, d.ref) not in gone]
        self._bury_at = clock.monotonic() + PAUSE_SECONDS if self._dead else 0.0

    def _note_troubled(self, settled: list[tuple[Delivery, Verdict]]) -> None:
        """Add to the trail. The messages are put off, so a database that is away costs their events only."""
        try:
            with self.turn():
                self.record(settled)
        except DatabaseError as error:
            logger.warning(
                "Of retried messages %s not written: %s", counted(len(settled), "event was", "events were"), error
            )

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        given = list(deliveries)
        for group, mine in self._by_group(given).items():
            keys = [self.bus.names.asleep]
            self._run(scripts.GIVE_BACK, group, keys, self.holder, self.bus.names.bell, *_refs(mine))
        self._drop(given)

    # what they have in common

    @property
    def _third(self) -> float:
        return self._lease.total_seconds() / 3

    @property
    def _milliseconds(self) -> int:
        return int(self._lease.total_seconds() * 1000)

    def _run(self, script: str, group: str, keys: Sequence[str], *arguments: object) -> Any:
        return self.bus.server.run(script, [*self.bus.names.streams(group), *keys], *arguments)

    def _drop(self, deliveries: Iterable[Delivery]) -> None:
        for each in deliveries:
            self._held.pop((each.group, each.ref), None)

    @staticmethod
    def _by_group(deliveries: Iterable[Delivery]) -> dict[str, list[Delivery]]:
        found: dict[str, list[Delivery]] = {}
        for each in deliveries:
            found.setdefault(each.group, []).append(each)
        return found


def _refs(deliveries: Iterable[Delivery]) -> list[object]:
    return [word for each in deliveries for word in each.ref]
