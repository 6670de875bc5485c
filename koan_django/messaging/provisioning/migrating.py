"""Makes a queue anew under its own name and keeps what it holds.

A queue cannot change its type or arguments, and two cannot have one name. So a second queue stands in for a while:

1. what the old one holds is moved to a temporary queue, which then receives in its place;
2. the old one is deleted once it is empty, and the queue is made as it is wanted;
3. what the temporary one holds is moved back, the queue receives again, and the temporary one is deleted once it is
   empty.

A message is acknowledged where it came from after the broker has confirmed it where it goes. So whenever this ends in
between, each message stands in one of the two, or in both: handlers see that one twice, as after any other redelivery.
The state is what stands on the broker: called again, it goes on where it was interrupted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from koan_django.core import faults
from koan_django.core.texts import counted
from koan_django.messaging.buses.amqp.topology import NEVER, Binding, Queue
from koan_django.messaging.exceptions import InspectionError, TopologyError

from . import ownership
from .applying import same_broker
from .declaring import Declarer, linked, take_turn
from .identities import identity_of, parts_of
from .moving import Mover
from .plans import MIGRATING

if TYPE_CHECKING:
    from collections.abc import Callable

    from koan_django.messaging.buses.amqp.link import Link

    from .identities import Part
    from .plans import Plan
    from .targets import Target

#: For the broker to count what a quorum queue holds.
COUNT_SECONDS = 60.0
_AFTER_SWITCH = faults.point("messaging.migrate.after_switch")
_AFTER_DELETE = faults.point("messaging.migrate.after_delete")
_BEFORE_END = faults.point("messaging.migrate.before_end")


@dataclass(frozen=True, slots=True)
class Migrated:
    """How many messages were moved away and back; nothing had to be done where ``is_done`` is false."""

    is_done: bool = False
    away: int = 0
    back: int = 0


def migrate(
    target: Target, queue: str, *, wait: float = 0, adopt: bool = False, tell: Callable[[str], None] = lambda text: None
) -> Migrated:
    """Make ``queue`` anew as it is wanted. ``tell`` hears of each step.

    ``wait`` seconds are given to its consumers to stop. ``adopt`` says that it is ours although that is not on record.
    Raises :class:`TopologyError` while somebody consumes it, and for a queue that is not wanted or not ours.
    """
    wanted = next((each for each in target.wanted.queues if each.name == queue), None)
    if wanted is None:
        names = ", ".join(sorted({each.name for each in target.wanted.queues}))
        raise TopologyError(f"the bus {target.bus!r} needs no queue {queue!r}", why=f"its queues are: {names}")
    with linked(target.url) as link:
        take_turn(link, target.options.prefix)
        plan = target.plan()
        same_broker(link, plan.standing)
        return _migrated(target, plan, wanted, link, wait=wait, adopt=adopt, tell=tell)


def _migrated(
    target: Target, plan: Plan, wanted: Queue, link: Link, *, wait: float, adopt: bool, tell: Callable[[str], None]
) -> Migrated:
    changes = [each for each in plan.changes if each.remedy == "migrate" and each.identity == identity_of(wanted)]
    if not changes:
        return Migrated()
    is_old = any(change.drift in ("type", "different") for change in changes)
    if is_old and not adopt and not any(change.owned for change in changes):
        raise TopologyError(
            f"the queue {wanted.name!r} is not on record as ours",
            fix="Give --adopt if it is all the same, or have it changed by whoever made it.",
        )
    return _Migration(target, plan, wanted, link, tell).run(is_old=is_old, wait=wait)


class _Migration:
    """One run over one queue."""

    def __init__(self, target: Target, plan: Plan, wanted: Queue, link: Link, tell: Callable[[str], None]) -> None:
        self._target = target
        self._standing = plan.standing
        self._where = (target.bus, plan.standing.broker, plan.standing.vhost)
        self._queue = wanted
        self._temporary = Queue(wanted.name + MIGRATING, {"x-queue-type": "quorum", "x-delivery-limit": NEVER})
        self._declarer = Declarer(link)
        self._mover = Mover(link)
        self._tell = tell

    def run(self, *, is_old: bool, wait: float) -> Migrated:
        name, temporary = self._queue.name, self._temporary.name
        away = back = 0
        if is_old:
            self._wait_for_consumers(wait)
            self._make(self._temporary)
            self._tell(f"nothing of {name} is handled until this ends; what arrives waits in {temporary}")
            ready, _ = self._declarer.counts(name)
            away += self._mover.move(name, temporary, at_most=ready)  # before the switch: what is older goes first
            self._switch(name, temporary)
            _AFTER_SWITCH()
            away += self._empty(name, temporary)
            _AFTER_DELETE()
        self._make(self._queue)
        back += self._mover.move(temporary, name, at_most=self._declarer.counts(temporary)[0])
        self._switch(temporary, name)
        _BEFORE_END()
        back += self._empty(temporary, name)
        ownership.forget(*self._where, [identity_of(self._temporary)])
        self._tell(
            f"{name} stands as it is wanted; {counted(away, 'message was', 'messages were')} moved away and {back} back"
        )
        return Migrated(is_done=True, away=away, back=back)

    def _wait_for_consumers(self, wait: float) -> None:
        end = time.monotonic() + wait
        while (consumers := self._declarer.counts(self._queue.name)[1]) and time.monotonic() < end:
            time.sleep(0.5)
        if consumers:
            raise TopologyError(
                f"{counted(consumers, 'consumer receives', 'consumers receive')} from the queue {self._queue.name!r}",
                fix="Stop the workers of its group, or pause its handlers, and call again; --wait gives them time.",
            )

    def _switch(self, source: str, destination: str) -> None:
        """Lead to ``destination`` whatever leads to ``source``; for a moment to both, and never to neither."""
        bindings = self._bindings()
        for binding in bindings:
            self._make(replace(binding, destination=destination), on_record=destination == self._queue.name)
        for binding in bindings:
            refusal = self._declarer.unbind(replace(binding, destination=source))
            if refusal:
                raise self._stopped(f"a binding of {source}", refusal)

    def _bindings(self) -> list[Binding]:
        """What is to lead to the queue: what is wanted, and what led to it or to its substitute."""
        name = self._queue.name
        wanted = [each for each in parts_of(self._target.wanted) if isinstance(each, Binding)]
        ours = [each for each in wanted if each.destination == name and each.to == "queue"]
        theirs = [
            replace(each, destination=name)
            for each in self._standing.bindings
            if each.destination in (name, self._temporary.name) and each.to == "queue"
        ]
        return list({identity_of(each): each for each in (*theirs, *ours)}.values())

    def _empty(self, source: str, destination: str) -> int:
        """Move what is left and delete ``source``; what arrives meanwhile by its name is moved as well."""
        moved = 0
        while True:
            moved += self._mover.move(source, destination)
            if self._is_empty(source):
                refusal = self._declarer.delete_queue(source, if_empty=self._is_classic(source))
                if not refusal:
                    return moved
                self._refuse_consumers(source, refusal)
                if "PRECONDITION_FAILED" not in refusal:
                    raise self._stopped(source, refusal)

    def _is_empty(self, name: str) -> bool:
        """A classic queue is deleted only if it is empty; of a quorum queue what is out of sight has to be counted."""
        if self._is_classic(name):
            return True
        if name == self._temporary.name:  # nobody else knows it, and it dead-letters nothing
            return self._declarer.counts(name) == (0, 0)
        end = time.monotonic() + COUNT_SECONDS
        why = ""
        while time.monotonic() < end:
            ready, consumers = self._declarer.counts(name)
            if consumers:
                self._refuse_consumers(name, "it is consumed")
            if ready:
                return False
            try:
                found = self._target.inspect().queues.get(name)
            except InspectionError as error:  # it may be back in a moment, and half a migration is no place to end
                why = str(error)
            else:
                why = "it holds messages that nobody can take: somebody has them, or they cannot die"
                if found is None or (found.messages == 0 and not found.stuck):
                    return self._declarer.counts(name) == (0, 0)
            time.sleep(0.5)
        raise self._stopped(name, why)

    def _refuse_consumers(self, name: str, refusal: str) -> None:
        consumers = self._declarer.counts(name)[1]
        if consumers:
            raise self._stopped(
                name, f"{counted(consumers, 'consumer receives', 'consumers receive')} from it ({refusal})"
            )

    def _is_classic(self, name: str) -> bool:
        return name != self._temporary.name and self._standing.queues[name].type == "classic"

    def _make(self, part: Part, *, on_record: bool = True) -> None:
        is_ours = on_record and self._is_made_by_us(part)
        refusal = self._declarer.make(part)
        if refusal:
            raise self._stopped(str(identity_of(part)), refusal)
        if is_ours:
            ownership.record(*self._where, [part])

    def _is_made_by_us(self, part: Part) -> bool:
        """A binding that was there before is led on, and belongs to whom it belonged."""
        if not isinstance(part, Binding):
            return True
        wanted = {identity_of(each) for each in parts_of(self._target.wanted)}
        return identity_of(part) in wanted

    def _stopped(self, what: str, why: str) -> TopologyError:
        return TopologyError(
            f"the migration of {self._queue.name!r} stopped at {what}",
            why=why,
            fix="Nothing is lost: what is not in the queue waits in its substitute. Mend it and call again.",
        )
