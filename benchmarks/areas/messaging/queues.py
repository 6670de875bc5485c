"""The queue that our messages go to, and what is in it."""

from __future__ import annotations

from typing import Any

#: Makes a message as large as messages are.
TEXT = "x" * 1000


def declared(channel: Any, queue_type: str = "quorum") -> str:
    """Declare what a worker would, empty; a classic queue is one that it would not. Return the queue's name."""
    from koan_django.messaging.buses import registry
    from koan_django.messaging.buses.amqp.topology import declare as declare_all

    bus = registry.get("main")
    names = bus.names
    queue: str = names.group("bench")
    channel.queue_delete(queue)
    declare_all(channel, bus.topology())
    if queue_type != "quorum":
        declare(channel, queue, queue_type)
        channel.queue_bind(queue, names.exchange, "bench.empty.*")
    return queue


def declare(channel: Any, name: str, queue_type: str) -> str:
    """Declare a durable queue, empty."""
    channel.queue_delete(name)
    channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-queue-type": queue_type})
    return name


def waiting(channel: Any, queue: str) -> int:
    """Return how many messages are in a queue."""
    count: int = channel.queue_declare(queue, passive=True).message_count
    return count
