"""Asks a broker how much is ready in the queues of groups, on a connection for that question alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound

from koan_django.messaging.buses.base import Depth

from .link import Link

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .bus import AmqpBus
    from .names import Names


def depths_of(bus: AmqpBus, sections: Iterable[Names], groups: Iterable[str]) -> list[Depth]:
    """Return what waits and who consumes; raises when the broker does not answer."""
    link = Link(bus.options.url or "", "depths")
    known = {queue.name for queue in bus.topology().queues}
    every = list(sections)
    try:
        link.connect()
        return [
            _sum(group, {each.section: _depth(link, group, _queues(bus, each, group, known)) for each in every})
            for group in groups
        ]
    finally:
        link.disconnect()


def _queues(bus: AmqpBus, names: Names, group: str, known: set[str]) -> list[str]:
    """The queue of ``group``, and those of its partitions if it has any."""
    partitions = (names.partition(group, number) for number in range(bus.options.partitions))
    return [names.group(group), *(name for name in partitions if name in known)]


def _sum(group: str, found: dict[str, Depth]) -> Depth:
    """Of a group, what is shared and what tenants have apart."""
    waiting, consumers = sum(each.waiting for each in found.values()), max(each.consumers for each in found.values())
    note = next((each.note for each in found.values() if each.note), "")
    return Depth(group, waiting, -1, consumers, note, {name: each.waiting for name, each in found.items() if name})


def _depth(link: Link, group: str, queues: Iterable[str]) -> Depth:
    """Sum up the queues of a group. A worker consumes several of them and counts once."""
    waiting = consumers = 0
    missing: list[str] = []
    channel: Any = link.channel()
    for queue in queues:
        try:
            found = channel.queue_declare(queue, passive=True)
        except NotFound:  # which has closed the channel
            missing.append(queue)
            channel = link.channel()
            continue
        waiting += found.message_count
        consumers = max(consumers, found.consumer_count)
    channel.close()
    note = f"the queue {missing[0]} is missing" if missing else ""
    return Depth(group, waiting, -1, consumers, note)
