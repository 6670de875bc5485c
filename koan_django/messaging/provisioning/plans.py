"""What has to change so that a virtual host is as the bus needs it. Nothing is asked and nothing changed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from koan_django.core.texts import counted
from koan_django.messaging.buses.amqp.topology import Binding, Exchange, Queue

from .identities import Identity, identity_of, parts_of
from .standing import Standing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from koan_django.messaging.buses.amqp.topology import Topology

    from .identities import Part
    from .standing import StandingExchange, StandingQueue

#: ``missing``: it does not stand there. ``different``: it stands there with other arguments. ``type``: the queue is of
#: another type. ``unfinished``: a migration was interrupted. ``obsolete``: it was made by us and nobody wants it.
#: ``foreign``: somebody else's binding leads to what is ours. ``policy``: a policy adds something. ``stuck``: messages
#: wait to be dead-lettered and have no place to go to.
Drift: TypeAlias = Literal["missing", "different", "type", "unfinished", "obsolete", "foreign", "policy", "stuck"]
#: How it is mended: by ``apply``, by ``apply --force``, by ``migrate``, or by people only.
Remedy: TypeAlias = Literal["apply", "force", "migrate", "people"]

#: A migration keeps the messages of a queue in one called so while the queue is made anew.
MIGRATING = ".migrating"
#: The two that lose nothing together, and lose dead letters when one of them is missing.
AT_LEAST_ONCE = ("x-dead-letter-strategy", "x-overflow")
#: What a policy adds and what then loses messages that were accepted, or leads them elsewhere.
HARMFUL = frozenset(
    {
        "message-ttl",
        "expires",
        "max-length",
        "max-length-bytes",
        "dead-letter-exchange",
        "dead-letter-routing-key",
        "delivery-limit",
    }
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One argument that stands there with another value; ``None`` where it does not stand at all."""

    argument: str
    have: Any
    want: Any

    def __str__(self) -> str:
        return f"{self.argument}: {_said(self.have)}, wanted {_said(self.want)}"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between what stands and what is wanted.

    ``drift`` is what it is; ``owned`` whether the object is on record as made by us; ``counts`` whether it keeps
    ``verify`` from passing.
    """

    drift: Drift
    identity: Identity
    remedy: Remedy
    detail: str = ""
    differences: tuple[Difference, ...] = ()
    owned: bool = False
    counts: bool = True

    def __str__(self) -> str:
        detail = "; ".join(filter(None, [*map(str, self.differences), self.detail]))
        return f"{self.drift} {self.identity.kind} {self.identity}" + (f" ({detail})" if detail else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes of one virtual host, and what stands there."""

    standing: Standing
    changes: tuple[Change, ...]

    @property
    def has_changes(self) -> bool:
        """Whether something counts that is not as it is wanted."""
        return any(change.counts for change in self.changes)

    def by(self, remedy: Remedy) -> list[Change]:
        """Return the changes that are mended by ``remedy``."""
        return [change for change in self.changes if change.remedy == remedy]


def plan(wanted: Topology, standing: Standing, owned: Collection[Identity] = ()) -> Plan:
    """Compare ``wanted`` with what stands; ``owned`` is on record as made by us."""
    parts = {identity_of(part): part for part in parts_of(wanted)}
    standing_bindings = {identity_of(each): each for each in standing.bindings}
    changes = [
        *_of_exchanges(parts, standing, owned),
        *_of_queues(parts, standing, owned),
        *(
            Change("missing", each, "apply")
            for each in parts
            if each.kind == "binding" and each not in standing_bindings
        ),
        *_foreign(parts, standing_bindings, owned),
        *_obsolete(parts, standing, standing_bindings, owned),
    ]
    return Plan(standing, tuple(changes))


def _of_exchanges(parts: Mapping[Identity, Part], standing: Standing, owned: Collection[Identity]) -> Iterator[Change]:
    for identity, part in parts.items():
        if not isinstance(part, Exchange):
            continue
        found = standing.exchanges.get(part.name)
        if found is None:
            yield Change("missing", identity, "apply", part.type)
            continue
        differences = [*_durability(found), *_differences(found.arguments, part.arguments)]
        if found.type != part.type:
            differences.insert(0, Difference("type", found.type, part.type))
        if differences:
            yield Change("different", identity, "force", "", tuple(differences), identity in owned)
        if "alternate-exchange" in found.policy_definition:
            yield _policy(identity, found, ["alternate-exchange"], harmful=False)


def _of_queues(parts: Mapping[Identity, Part], standing: Standing, owned: Collection[Identity]) -> Iterator[Change]:
    for identity, part in parts.items():
        if not isinstance(part, Queue):
            continue
        found = standing.queues.get(part.name)
        interrupted = standing.queues.get(part.name + MIGRATING)
        if interrupted is not None:
            detail = f"{_counted(interrupted)} wait in {interrupted.name}"
            yield Change("unfinished", identity, "migrate", detail, owned=identity in owned)
        if found is None:
            yield Change("missing", identity, "apply", part.arguments.get("x-queue-type", "classic"))
        else:
            yield from _of_queue(identity, part, found, owned)


def _of_queue(identity: Identity, part: Queue, found: StandingQueue, owned: Collection[Identity]) -> Iterator[Change]:
    differences = (*_durability(found), *_differences(found.arguments, part.arguments))
    unsafe = any(each.argument in AT_LEAST_ONCE for each in differences)
    detail = "dead letters can be lost: both arguments are needed together" if unsafe else ""
    wanted_type = part.arguments.get("x-queue-type", "classic")
    if found.type != wanted_type:
        kind = Difference("type", found.type, wanted_type)
        yield Change("type", identity, "migrate", detail, (kind, *differences), identity in owned)
    elif differences:
        yield Change("different", identity, "migrate", detail, differences, identity in owned)
    harmful = list(_harmful(found))
    if harmful:
        yield _policy(identity, found, harmful, harmful=True)
    if found.stuck:
        target = found.arguments.get("x-dead-letter-routing-key", "whatever their routing key says")
        text = f"{counted(found.stuck, 'message')} cannot be dead-lettered to {target!r}: nothing takes them there"
        yield Change("stuck", identity, "people", text)


def _policy(identity: Identity, found: StandingQueue | StandingExchange, keys: list[str], *, harmful: bool) -> Change:
    added = ", ".join(f"{key}={found.policy_definition[key]}" for key in keys)
    return Change("policy", identity, "people", f"the policy {found.policy!r} sets {added}", counts=harmful)


def _harmful(found: StandingQueue) -> Iterator[str]:
    """What a policy sets and no argument of the queue does; of two limits the lower one counts."""
    for key in sorted(HARMFUL & found.policy_definition.keys()):
        value, argument = found.policy_definition[key], found.arguments.get(f"x-{key}")
        if argument is None or (isinstance(value, int) and isinstance(argument, int) and value < argument):
            yield key


def _foreign(
    parts: Mapping[Identity, Part], bindings: Mapping[Identity, Binding], owned: Collection[Identity]
) -> Iterator[Change]:
    queues = {part.name for part in parts.values() if isinstance(part, Queue)}
    for identity, binding in sorted(bindings.items(), key=lambda each: each[0]):
        if binding.to == "queue" and binding.destination in queues and identity not in parts and identity not in owned:
            yield Change("foreign", identity, "people", "not on record as ours", counts=False)


def _obsolete(
    parts: Mapping[Identity, Part],
    standing: Standing,
    bindings: Mapping[Identity, Binding],
    owned: Collection[Identity],
) -> Iterator[Change]:
    """What is on record as ours, stands and is not wanted: bindings first, then queues, then exchanges."""
    order = {"binding": 0, "queue": 1, "exchange": 2}
    for identity in sorted(owned, key=lambda each: (order[each.kind], each)):
        if identity in parts or _is_temporary(identity, parts):
            continue
        if identity.kind == "queue" and identity.name in standing.queues:
            detail = f"holds {_counted(standing.queues[identity.name])}"
            yield Change("obsolete", identity, "force", detail, owned=True)
        elif (identity.kind == "exchange" and identity.name in standing.exchanges) or identity in bindings:
            yield Change("obsolete", identity, "force", owned=True)


def _is_temporary(identity: Identity, parts: Mapping[Identity, Part]) -> bool:
    """Whether it belongs to the migration of a queue that is wanted."""
    name = identity.name
    return name.endswith(MIGRATING) and Identity("queue", name.removesuffix(MIGRATING)) in parts


def _differences(have: Mapping[str, Any], want: Mapping[str, Any]) -> list[Difference]:
    names = sorted((set(have) | set(want)) - {"x-queue-type"})
    return [Difference(name, have.get(name), want.get(name)) for name in names if have.get(name) != want.get(name)]


def _durability(found: StandingQueue | StandingExchange) -> Iterable[Difference]:
    if not found.durable:
        yield Difference("durable", have=False, want=True)
    if found.auto_delete:
        yield Difference("auto-delete", have=True, want=False)


def _counted(queue: StandingQueue) -> str:
    return "an unknown number of messages" if queue.messages is None else counted(queue.messages, "message")


def _said(value: Any) -> str:
    return "nothing" if value is None else repr(value)
