"""Carries out a plan: adds what is missing, and when it is forced makes anew or removes what is on record as ours.

What stands there must be known first: without an answer of the management API nothing is changed. A queue that holds
anything, or that somebody consumes, is never deleted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from koan_django.core import faults
from koan_django.core.texts import counted
from koan_django.messaging.exceptions import TopologyError

from . import ownership
from .declaring import Declarer, linked, take_turn
from .identities import Identity, identity_of, parts_of
from .plans import Change
from .ways import Ways

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.messaging.buses.amqp.link import Link

    from .plans import Plan
    from .standing import Standing, StandingQueue
    from .targets import Target


_MADE = faults.point("messaging.apply.made")


@dataclass(slots=True)
class Applied:
    """What was done, and what was left with the reason."""

    made: list[Identity] = field(default_factory=list)
    removed: list[Identity] = field(default_factory=list)
    adopted: list[Identity] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    #: What only force, a migration or people can mend.
    left: list[Change] = field(default_factory=list)


def apply(target: Target, *, force: bool = False, adopt: bool = False) -> Applied:
    """Add what is missing.

    ``force`` makes anew and removes what is ours; ``adopt`` puts on record what stands as it is wanted.

    Raises :class:`~koan_django.messaging.exceptions.InspectionError` before anything is changed.
    """
    plan = target.plan()
    with linked(target.url) as link:
        same_broker(link, plan.standing)
        if force:
            take_turn(link, target.options.prefix)
            plan = target.plan()  # the one before may have changed it
        return _Work(target, plan, Declarer(link)).run(force=force, adopt=adopt)


def same_broker(link: Link, standing: Standing) -> None:
    """Raise :class:`TopologyError` when the API told of another broker than the one that would be changed."""
    if link.broker and link.broker != standing.broker:
        raise TopologyError(
            f"the management API belongs to the broker {standing.broker!r} and the URL of the bus to {link.broker!r}",
            fix="Correct MANAGEMENT or URL.",
        )


class _Work:
    """One run over one virtual host."""

    def __init__(self, target: Target, plan: Plan, declarer: Declarer) -> None:
        self._plan = plan
        self._declarer = declarer
        self._where = (target.bus, plan.standing.broker, plan.standing.vhost)
        self._parts = {identity_of(part): part for part in parts_of(target.wanted)}
        self._bindings = {identity_of(each): each for each in plan.standing.bindings}
        self._owned = ownership.owned(*self._where)
        self._ways = Ways(plan.standing)
        self._done = Applied()

    def run(self, *, force: bool, adopt: bool) -> Applied:
        if force:
            self._force()
        for change in self._plan.changes:
            if change.drift == "missing":
                self._make(change.identity)
            elif not force and change.remedy != "apply":
                self._done.left.append(change)
        if adopt:
            self._adopt()
        ownership.wanted(*self._where, self._parts.values())
        ownership.forget(*self._where, self._vanished())
        return self._done

    def _make(self, identity: Identity) -> None:
        part = self._parts[identity]
        refusal = self._declarer.make(part)
        if refusal:
            self._done.refused.append(f"{identity.kind} {identity}: {refusal}")
            return
        _MADE()
        ownership.record(*self._where, [part])
        self._done.made.append(identity)

    def _adopt(self) -> None:
        drifts = ("missing", "different", "type")
        differing = {change.identity for change in self._plan.changes if change.drift in drifts}
        adopted = [each for each in self._parts if each not in self._owned and each not in differing]
        ownership.record(*self._where, [self._parts[each] for each in adopted])
        self._done.adopted += adopted

    def _vanished(self) -> Iterable[Identity]:
        """What is on record and neither wanted nor there."""
        standing = self._plan.standing
        for each in self._owned - self._parts.keys():
            if each.kind == "binding":
                is_there = each in self._bindings
            else:
                is_there = each.name in (standing.queues if each.kind == "queue" else standing.exchanges)
            if not is_there:
                yield each

    # forced

    def _force(self) -> None:
        for change in self._plan.changes:
            if change.drift == "obsolete":
                self._remove(change)
            elif change.drift in ("different", "type"):
                self._make_anew(change)

    def _remove(self, change: Change) -> None:
        identity = change.identity
        refusal = self._awaited(identity) or self._delete(identity)
        if refusal:
            self._done.refused.append(f"{identity.kind} {identity}: {refusal}")
            return
        ownership.forget(*self._where, [identity])
        self._done.removed.append(identity)

    def _awaited(self, identity: Identity) -> str:
        """What forbids to remove something that nobody wants: the messages that are yet to come through it."""
        waiting = self._ways.waiting_before(identity)
        return f"messages that wait in {', '.join(waiting)} come through it: wait until they have" if waiting else ""

    def _make_anew(self, change: Change) -> None:
        identity = change.identity
        refusal = self._hindrance(change) or self._delete(identity)
        if refusal:
            self._done.refused.append(f"{identity.kind} {identity}: {refusal}")
            return
        self._done.removed.append(identity)
        self._make(identity)
        for each in self._parts:
            if each.kind == "binding" and identity.name in (each.name, each.source):
                self._make(each)

    def _hindrance(self, change: Change) -> str:
        """What forbids to delete something that is wanted otherwise."""
        if not change.owned:
            return "it is not on record as ours: whoever made it must change it"
        name = change.identity.name
        foreign = [
            identity
            for identity, binding in self._bindings.items()
            if name in (binding.source, binding.destination)
            and identity not in self._parts
            and identity not in self._owned
        ]
        return f"bindings that are not ours would be lost: {', '.join(map(str, foreign))}" if foreign else ""

    def _delete(self, identity: Identity) -> str:
        if identity.kind == "binding":
            return self._declarer.unbind(self._bindings[identity])
        if identity.kind == "exchange":
            is_wanted = identity in self._parts
            return self._declarer.delete_exchange(identity.name, if_unused=not is_wanted)
        return self._delete_queue(self._plan.standing.queues[identity.name])

    def _delete_queue(self, queue: StandingQueue) -> str:
        if queue.messages is None:
            return "the broker has not counted its messages yet: try again in a moment"
        ready, consumers = self._declarer.counts(queue.name)
        if consumers:
            return f"{counted(consumers, 'consumer receives', 'consumers receive')} from it: stop consuming it first"
        held = max(ready, queue.messages) + queue.stuck
        if held:
            return f"it holds {counted(held, 'message')}: handle, purge or move first (`koan_topology migrate` moves)"
        return self._declarer.delete_queue(queue.name, if_empty=queue.type == "classic")
