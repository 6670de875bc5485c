"""Makes and removes single parts on a broker; what it refuses is an answer and not the end of the connection."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AccessRefused, ChannelError

from koan_django.messaging.buses.amqp.link import Link
from koan_django.messaging.buses.amqp.topology import Binding, Exchange, Queue, declare

from .identities import topology_of_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .identities import Part


class Declarer:
    """Works on a channel of ``link``, and opens another whenever the broker has closed it by a refusal."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._opened: Any = None

    @property
    def channel(self) -> Any:
        """An open channel."""
        if self._opened is None or not self._opened.is_open:
            self._opened = self._link.channel()
        return self._opened

    def stands(self, part: Exchange | Queue) -> bool:
        """Whether something of its kind and name stands there, whatever its arguments."""
        return not self._refusal(lambda: declare(self.channel, topology_of_parts([part]), passive=True))

    def make(self, part: Part) -> str:
        """Make it unless it stands there. Return what the broker refuses, or nothing.

        A user who may not make anything is content with what stands there.
        """
        try:
            declare(self.channel, topology_of_parts([part]))
        except AccessRefused as error:
            return str(error) if isinstance(part, Binding) or not self.stands(part) else ""
        except ChannelError as error:
            return str(error)
        return ""

    def counts(self, queue: str) -> tuple[int, int]:
        """Return how many messages are ready in a queue, and how many consumers it has."""
        found = self.channel.queue_declare(queue, passive=True)
        return int(found.message_count), int(found.consumer_count)

    def unbind(self, binding: Binding) -> str:
        """Take a binding away. Return what the broker refuses, or nothing; one that is gone is no refusal."""
        unbind = self.channel.queue_unbind if binding.to == "queue" else self.channel.exchange_unbind
        return self._refusal(
            lambda: unbind(binding.destination, binding.source, binding.key, arguments=dict(binding.arguments))
        )

    def delete_queue(self, queue: str, *, if_empty: bool) -> str:
        """Delete a queue without consumers; quorum queues know no ``if_empty``. Return what the broker refuses."""
        return self._refusal(lambda: self.channel.queue_delete(queue, if_unused=if_empty, if_empty=if_empty))

    def delete_exchange(self, exchange: str, *, if_unused: bool) -> str:
        """Delete an exchange. Return what the broker refuses, or nothing."""
        return self._refusal(lambda: self.channel.exchange_delete(exchange, if_unused=if_unused))

    def close(self) -> None:
        """Close the channel; the link stays open."""
        if self._opened is not None and self._opened.is_open:
            self._opened.close()

    def _refusal(self, ask: Callable[[], object]) -> str:
        try:
            ask()
        except ChannelError as error:
            return str(error)
        return ""


@contextmanager
def linked(url: str) -> Iterator[Link]:
    """Connect for the block. Raises :class:`~koan_django.messaging.exceptions.BusUnavailableError`."""
    link = Link(url, "topology")
    try:
        link.connect()
        yield link
    finally:
        link.close()
