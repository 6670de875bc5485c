"""The broker without our code: what a stranger declares, publishes and counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.basic_message import Message
from amqp.exceptions import NotFound
from kombu import Connection


class Wire:
    """One plain connection to a virtual host."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.channel = connection.channel()

    def queue(self, name: str, **arguments: Any) -> str:
        """Declare a durable queue."""
        self.channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        return name

    def publish(self, queue: str, body: bytes, **properties: Any) -> None:
        """Put a message straight into a queue."""
        self.channel.basic_publish(Message(body, **properties), "", queue)

    def publish_raw(self, queue: str, body: bytes, replace: tuple[bytes, bytes], **properties: Any) -> None:
        """Publish a message in whose encoded properties something is replaced: what no client of Python would send."""

        class Raw(Message):
            def _serialize_properties(self) -> bytes:
                encoded: bytes = super()._serialize_properties()
                assert replace[0] in encoded
                return encoded.replace(*replace)

        self.channel.basic_publish(Raw(body, **properties), "", queue)

    def take(self, queue: str) -> list[Any]:
        """Take everything out of a queue."""
        found = []
        while (message := self.channel.basic_get(queue, no_ack=True)) is not None:
            found.append(message)
        return found

    def depth(self, queue: str) -> int:
        """Return how many messages are ready, ``-1`` for a queue that is not there."""
        try:
            return int(self.channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            self.channel = self._connection.channel()
            return -1


@contextmanager
def wired(url: str) -> Iterator[Wire]:
    """Connect for the block."""
    with Connection(url) as connection:
        yield Wire(connection)
