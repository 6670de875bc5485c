"""What is said to whoever listens now, and answered to one of them. Nothing of it is kept.

Whoever takes part has a queue, which ends with its connection. Topics lead from one exchange to the queues of those who
listen to them; an answer goes by the default exchange straight to the queue of whoever asked.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from amqp.basic_message import Message
from amqp.exceptions import AMQPError

from koan_django.core.context import new_id
from koan_django.core.redaction import redact_text
from koan_django.messaging.exceptions import BusUnavailableError

from .link import Link
from .names import Names
from .watchdog import cancelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

#: How much of what was not read yet is kept on the broker, where the oldest goes first, and how much is here at once.
LENGTH, BYTES, PREFETCH = 256, 256 * 1024, 64


class Heard(NamedTuple):
    """Something that was said. Anybody who may publish can have said it."""

    topic: str
    body: bytes


class Broadcast:
    """Used by one thread. Raises :class:`BusUnavailableError` for all that goes wrong.

    ``patience`` is the number of seconds in which the broker must let us in, and must answer.
    """

    def __init__(self, url: str, prefix: str, purpose: str, *, patience: float) -> None:
        self._names = Names(prefix)
        self._link = Link(url, purpose, patience)
        self._channel: Any = None
        self._heard: list[Heard] = []
        self._tag = 0
        self._is_broken = False
        #: Where answers come to.
        self.queue = ""

    @property
    def is_stale(self) -> bool:
        """Whether the credentials have rotated: open it again at a good moment."""
        return self._link.stale

    def open(self, topics: Iterable[str]) -> None:
        """Connect, and listen to ``topics`` from now on."""
        with self._told():
            self._link.connect()
            self._is_broken = False
            self._heard.clear()
            self.queue = f"{self._names.broadcast}.{new_id()}"
            self._channel = channel = self._link.channel()
            channel.auto_decode = False  # what a stranger declares of a body is a stranger's word
            channel.exchange_declare(self._names.broadcast, "topic", durable=True, auto_delete=False)
            limits = {"x-max-length": LENGTH, "x-max-length-bytes": BYTES}
            channel.queue_declare(self.queue, exclusive=True, auto_delete=True, arguments=limits)
            for topic in topics:
                channel.queue_bind(self.queue, self._names.broadcast, topic)
            channel.basic_qos(0, PREFETCH, False)
            channel.basic_consume(self.queue, callback=self._arrived, on_cancel=partial(cancelled, self.queue))

    def say(self, topic: str, body: bytes, ttl: timedelta) -> None:
        """Say ``body`` to everybody who listens to ``topic``; after ``ttl`` it is not heard any more."""
        self._publish(self._names.broadcast, topic, Message(body, expiration=_milliseconds(ttl), reply_to=self.queue))

    def answer(self, queue: str, body: bytes, ttl: timedelta, correlation_id: str) -> None:
        """Say ``body`` to the one who asked and listens at ``queue``, if it still does."""
        if queue.startswith(f"{self._names.broadcast}."):  # no other queue takes an answer
            message = Message(body, expiration=_milliseconds(ttl), correlation_id=correlation_id)
            self._publish("", queue, message)

    def listen(self, seconds: float) -> list[Heard]:
        """Wait until something is heard, at most for ``seconds``."""
        with self._told():
            self._link.wait(max(seconds, 0.0))
            if self._heard:
                self._channel.basic_ack(self._tag, multiple=True)
        heard, self._heard = self._heard, []
        return heard

    def disconnect(self) -> None:
        """Be heard and hear no more, until it is opened again."""
        self._channel = None
        self._link.disconnect(politely=not self._is_broken)

    def _publish(self, exchange: str, key: str, message: Message) -> None:
        with self._told():
            self._channel.basic_publish(message, exchange, key)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (AMQPError, OSError) as error:
            self._is_broken = True
            raise BusUnavailableError(
                "the broker does not let us speak or listen now",
                why=redact_text(f"{type(error).__name__}: {error}"),
                fix="Look at the log of the broker, and at the permissions of its user.",
            ) from error

    def _arrived(self, message: Any) -> None:
        self._tag = message.delivery_tag
        self._heard.append(
            Heard(str(message.delivery_info.get("routing_key", "")), bytes(message.body or b""))
        )  # py-amqp has a text for nothing


def _milliseconds(ttl: timedelta) -> str:
    return str(int(ttl.total_seconds() * 1000))
