"""Makes and removes single parts on a broker; what it refuses is an answer and not the end of the connection."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AccessRefused, AMQPError, ChannelError, NotFound, ResourceLocked

from koan_django.core.redaction import redact_text
from koan_django.messaging.buses.amqp.link import Link
from koan_django.messaging.buses.amqp.names import Names
from koan_django.messaging.buses.amqp.topology import Binding, Exchange, Queue, declare
from koan_django.messaging.exceptions import BusUnavailableError, TopologyError

from .identities import topology_of_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .identities import Part

#: For whoever changes the topology now to end; the broker takes a moment to notice a process that was killed.
TURN_SECONDS = 5.0


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
        """Return how many messages are ready in a queue, and how many consumers it has; none where it is gone."""
        try:
            found = self.channel.queue_declare(queue, passive=True)
        except NotFound:
            return 0, 0
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
    except (AMQPError, OSError) as error:
        raise BusUnavailableError(
            "the work on the broker was interrupted",
            why=redact_text(f"{type(error).__name__}: {error}"),
            fix="No message is lost: call it again, and it goes on with what stands there then.",
        ) from error
    finally:
        link.disconnect()


def take_turn(link: Link, prefix: str) -> None:
    """Have what stands for ``prefix`` to oneself until the link is closed: a queue that only one connection may have.

    Nothing stays behind when the process is killed. Raises :class:`TopologyError` while somebody else has it.
    """
    end = time.monotonic() + TURN_SECONDS
    while True:
        try:
            link.channel().queue_declare(Names(prefix).turn, exclusive=True, auto_delete=False)
            return
        except ResourceLocked as error:
            if time.monotonic() > end:
                raise TopologyError(
                    f"somebody else is removing or migrating what stands for {prefix!r}",
                    fix="Nothing was changed: call it again when that has ended.",
                ) from error
        time.sleep(0.2)
