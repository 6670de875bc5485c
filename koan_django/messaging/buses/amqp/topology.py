"""What a bus needs on RabbitMQ, as data: workers declare it, and whoever plans, verifies or exports it reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from koan_django.messaging.routing import binding_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.handlers import Handler

    from .names import Names

#: Counts every redelivery, those of dropped connections too, so it only catches a message that ends whole workers.
#: https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
DELIVERY_LIMIT = 100
#: RabbitMQ 4 has a limit of 20 where none is given, and drops what exceeds it where there are no dead letters.
NEVER = 2_000_000_000
DELAY = "koan-delay-"
HIGHEST_PRIORITY = 9


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["topic", "fanout", "direct", "headers"]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """What leads from an exchange to a queue, or to another exchange."""

    source: str
    destination: str
    key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    to: Literal["queue", "exchange"] = "queue"


@dataclass(frozen=True, slots=True)
class Topology:
    """Exchanges, queues and bindings, in the order in which they can be declared.

    ``obsolete`` are bindings of an earlier shape of a group, by which it would get a message twice.
    """

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    obsolete: tuple[Binding, ...] = ()

    def __add__(self, other: Topology) -> Topology:
        return Topology(
            self.exchanges + other.exchanges,
            self.queues + other.queues,
            self.bindings + other.bindings,
            self.obsolete + other.obsolete,
        )


def topology_of(names: Names, options: BusOptions, groups: Mapping[str, Sequence[Handler]]) -> Topology:
    """Return all that a bus needs whose handlers are ``groups``."""
    found = Topology(exchanges=sending_exchanges(names, options)) + delay_topology(names, options.delay_in_broker)
    sources = [names.exchange, names.delayed] if options.delay_in_broker else [names.exchange]
    found += _groups_topology(names, options, groups, sources)
    for section in options.sections:
        own = replace(names, section=section)
        found += _groups_topology(own, options, groups, [own.exchange])
    return found + retry_topology(names, waits(options, groups))


def _groups_topology(
    names: Names, options: BusOptions, groups: Mapping[str, Sequence[Handler]], sources: Sequence[str]
) -> Topology:
    found = Topology()
    for group, members in groups.items():
        patterns = [member.binding for member in members]
        if any(member.ordered for member in members):
            found += ordered_topology(names, group, patterns, sources, range(options.partitions), options.priorities)
        else:
            found += group_topology(names, group, patterns, sources, options.priorities)
    return found


def sending_exchanges(names: Names, options: BusOptions) -> tuple[Exchange, ...]:
    """Return the exchanges that publishers need."""
    every = [names, *(replace(names, section=section) for section in options.sections)]
    return tuple(Exchange(name, "topic") for each in every for name in (each.exchange, each.direct))


def waits(options: BusOptions, groups: Mapping[str, Sequence[Handler]]) -> list[timedelta]:
    """Return how long messages wait between attempts, by the policies of the bus and its handlers, shortest first."""
    policies = [options.retry, *(member.retry for members in groups.values() for member in members)]
    return sorted({step for policy in policies for step in policy.steps()})


def group_topology(
    names: Names, group: str, patterns: Iterable[str], sources: Iterable[str], priorities: bool = False
) -> Topology:
    """Return a group's queue with its bindings, and the queue of its dead letters."""
    queue = _plain_queue(names, group, priorities)
    bindings = _bindings(names, group, patterns, sources, queue, "*")
    return Topology(queues=(_dead_queue(names, group), queue), bindings=bindings)


def ordered_topology(
    names: Names,
    group: str,
    patterns: Sequence[str],
    sources: Sequence[str],
    partitions: Iterable[int],
    priorities: bool = False,
) -> Topology:
    """Return the queues of an ordered group: one for each partition, and one for messages that have no key.

    The broker gives a partition to one consumer at a time, whoever believes to hold it.
    https://www.rabbitmq.com/docs/consumers#single-active-consumer
    """
    plain = _plain_queue(names, group, priorities)
    bindings = _bindings(names, group, patterns, sources, plain, "p")
    found = Topology(queues=(_dead_queue(names, group), plain), bindings=bindings)
    for number in partitions:
        queue = partition_queue(names, group, number)
        found += Topology(queues=(queue,), bindings=_bindings(names, group, patterns, sources, queue, f"p{number}"))
    return found + Topology(obsolete=_bindings(names, group, patterns, sources, plain, "*"))


def partition_queue(names: Names, group: str, number: int) -> Queue:
    """Return the queue of a partition of a group."""
    return _group_queue(names, group, names.partition(group, number), {"x-single-active-consumer": True})


def _group_queue(names: Names, group: str, name: str, more: Mapping[str, Any] = MappingProxyType({})) -> Queue:
    dead = {"x-dead-letter-routing-key": names.dead(group), "x-delivery-limit": DELIVERY_LIMIT}
    return Queue(name, {**at_least_once(), **dead, **more})


def _plain_queue(names: Names, group: str, priorities: bool) -> Queue:
    """The queue in which the order does not matter. Only a classic queue tells ten priorities apart.

    It is on one node, and has no limit of deliveries; that it dead-letters at most once matters to nobody, since
    workers publish dead letters themselves.
    """
    if not priorities:
        return _group_queue(names, group, names.group(group))
    arguments = {
        "x-queue-type": "classic",
        "x-max-priority": HIGHEST_PRIORITY,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": names.dead(group),
    }
    return Queue(names.group(group), arguments)


def _dead_queue(names: Names, group: str) -> Queue:
    return Queue(names.dead(group), {"x-queue-type": "quorum", "x-delivery-limit": NEVER})


def _bindings(
    names: Names, group: str, patterns: Iterable[str], sources: Iterable[str], queue: Queue, word: str
) -> tuple[Binding, ...]:
    """Lead what has the partition word ``word`` to ``queue``: by the patterns, and by the name of the group."""
    keys = [binding_key(pattern, word) for pattern in dict.fromkeys(patterns)]
    shared = (Binding(source, queue.name, key) for source in sources for key in keys)
    return (*shared, Binding(names.direct, queue.name, binding_key(group, word)))


def retry_topology(names: Names, waits: Iterable[timedelta]) -> Topology:
    """Return a bucket for each wait.

    A message is published to the bucket's exchange with the failing group's queue as routing key and keeps it, so when
    its time is over the default exchange hands it to that queue only.
    """
    found = Topology()
    for wait in waits:
        name = names.retry(wait)
        found += Topology(
            (Exchange(name, "fanout"),),
            (Queue(name, {**at_least_once(), "x-message-ttl": int(wait.total_seconds() * 1000)}),),
            (Binding(name, name, ""),),
        )
    return found


def delay_topology(names: Names, longest: timedelta) -> Topology:
    """Return the ladder on which messages wait for up to ``longest``, in whole seconds.

    A step holds messages for a power of two of seconds. A message carries a header for each step at which it is to
    wait, is published to the exchange of the highest of them and goes down by itself: the exchange of a step leads to
    its queue by that header, and else, as its alternate exchange, to the step below; the queue dead-letters there. The
    routing key stays what it is. Whatever no group receives in the end goes to the orphans; the queues would try to
    dead-letter it without end, and hold up what is behind it.
    """
    if not longest:
        return Topology()
    found = Topology(
        (Exchange(names.orphans, "fanout"), Exchange(names.delayed, "topic", {"alternate-exchange": names.orphans})),
        (Queue(names.orphans, {"x-queue-type": "quorum", "x-delivery-limit": NEVER}),),
        (Binding(names.orphans, names.orphans, ""),),
    )
    for level in range(int(longest.total_seconds()).bit_length()):
        name, below = names.delay(level), names.delay(level - 1) if level else names.delayed
        queue = {**at_least_once(), "x-dead-letter-exchange": below, "x-message-ttl": 1000 << level}
        found += Topology(
            (Exchange(name, "headers", {"alternate-exchange": below}),),
            (Queue(name, queue),),
            (Binding(name, name, "", {"x-match": "all", delay_header(level): True}),),
        )
    return found


def steps_of(delay: timedelta) -> list[int]:
    """Return the steps of the ladder at which a message waits, the highest first; a begun second is waited for."""
    seconds = max(ceil(delay.total_seconds()), 1)
    return [level for level in reversed(range(seconds.bit_length())) if seconds >> level & 1]


def delay_header(level: int) -> str:
    """Return the header of a message that is to wait at a step of the ladder."""
    return f"{DELAY}{level}"


def at_least_once() -> dict[str, Any]:
    """Dead-lettering that loses nothing needs the strategy and the overflow together.

    https://www.rabbitmq.com/docs/quorum-queues#activating-at-least-once-dead-lettering
    """
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def declare(channel: Any, topology: Topology, *, passive: bool = False) -> None:
    """Declare what is missing. The broker refuses what stands there with other arguments.

    ``passive`` makes nothing: the broker refuses what is missing, and cannot be asked for bindings like that.
    """
    for exchange in topology.exchanges:
        arguments = dict(exchange.arguments)
        channel.exchange_declare(
            exchange.name, exchange.type, passive=passive, durable=True, auto_delete=False, arguments=arguments
        )
    for queue in topology.queues:
        arguments = dict(queue.arguments)
        channel.queue_declare(queue.name, passive=passive, durable=True, auto_delete=False, arguments=arguments)
    for binding in () if passive else topology.bindings:
        bind = channel.queue_bind if binding.to == "queue" else channel.exchange_bind
        bind(binding.destination, binding.source, binding.key, arguments=dict(binding.arguments))
