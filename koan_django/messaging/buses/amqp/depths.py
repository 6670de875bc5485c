"""Asks a broker how much is ready in the queues of groups, on a connection for that question alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound

from koan_django.messaging.buses.base import Depth

from .link import Link

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .bus import AmqpBus


def depths_of(bus: AmqpBus, groups: Iterable[str]) -> list[Depth]:
    """Return what waits and who consumes; raises when the broker does not answer."""
    link = Link(bus.options.url or "", "depths")
    known = {queue.name for queue in bus.topology().queues}
    try:
        link.connect()
        return [_depth(link, group, _queues(bus, group, known)) for group in groups]
    finally:
        link.close()


def _queues(bus: AmqpBus, group: str, known: set[str]) -> list[str]:
    """The queue of ``group``, and those of its partitions if it has any."""
    partitions = (bus.names.partition(group, number) for number in range(bus.options.partitions))
    return [bus.names.group(group), *(name for name in partitions if name in known)]


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
