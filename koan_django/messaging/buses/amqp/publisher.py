"""Publishes with confirms: one connection, owned by one thread of the process.

Confirms are matched by delivery tag and returns by what was published where. py-amqp's own wait takes any
acknowledgement for any message, which reports a false success after a timeout; here a channel that missed a confirm is
thrown away, and what was in flight on it is unknown.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import ChannelError, FrameSyntaxError

from koan_django.core.redaction import redact_text
from koan_django.messaging.buses.broker import Outcome

from .link import Link
from .properties import header_size
from .topology import Topology, declare, delay_topology, main_exchange

if TYPE_CHECKING:
    from koan_django.messaging.conf import BusOptions

    from .names import Names

logger = logging.getLogger(__name__)

WINDOW = 512
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 15.0
#: A caller waits for the confirm; connecting may come on top.
GRACE_SECONDS = 6.0
#: What a frame holds beside the headers of a message.
FRAME_OVERHEAD = 2048
#: What py-amqp raises for a message that it cannot write, before it writes anything.
_UNWRITABLE = (FrameSyntaxError, struct.error, UnicodeError, TypeError)


@dataclass(eq=False, slots=True)
class Publication:
    """A message on its way, and who wants to know. ``done`` is called on the publisher's thread as a rule."""

    exchange: str
    routing_key: str
    message: Message
    done: Callable[[Outcome], None]
    deadline: float = 0.0
    returned: str = ""
    #: Whoever wanted to know has given up: what was not written by then is not written any more.
    abandoned: bool = False

    @property
    def address(self) -> tuple[str, str, str]:
        """What was published where: all that a returned message tells of itself."""
        return self.message.properties["message_id"], self.exchange, self.routing_key


@dataclass(slots=True)
class _Answers:
    """Collects the outcomes of one call."""

    outcomes: list[Outcome]
    missing: int
    complete: threading.Event = field(default_factory=threading.Event)

    def at(self, index: int) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            self.outcomes[index] = outcome
            self.missing -= 1
            if not self.missing:
                self.complete.set()

        return done


class Publisher(threading.Thread):
    """The publishing thread of one bus in one process. ``error`` says why it publishes nothing now."""

    def __init__(self, options: BusOptions, names: Names) -> None:
        super().__init__(name="koan-publisher", daemon=True)
        self._names = names
        self._ladder = delay_topology(names, options.delay_in_broker)
        #: Exchanges of the ladder, until they are declared: by the first delayed message of a connection.
        self._undeclared: frozenset[str] = frozenset()
        self._timeout = options.confirm_timeout.total_seconds()
        self._link = Link(options.url or "", "publisher")
        self._queue: deque[Publication] = deque()
        self._in_flight: dict[int, Publication] = {}
        self._channel: Any = None
        self._tag = 0
        self._wanted = threading.Event()
        #: The last attempt to connect failed. Until one succeeds nobody is kept waiting.
        self._unreachable = False
        self._was_blocked = False
        self._retry_at = 0.0
        self._backoff = MIN_BACKOFF_SECONDS
        self._stopping = threading.Event()
        self.error = ""

    def publish(self, messages: Sequence[tuple[str, str, Message]]) -> list[Outcome]:
        """Publish (exchange, routing key, message) and wait for all outcomes, in order."""
        answers = _Answers([Outcome("unknown", "no answer from the publisher")] * len(messages), len(messages))
        publications = [Publication(*each, done=answers.at(index)) for index, each in enumerate(messages)]
        self.submit(publications)
        if publications and not answers.complete.wait(self._timeout + GRACE_SECONDS + len(messages) / 1000):
            for publication in publications:
                publication.abandoned = True
        return list(answers.outcomes)

    def submit(self, publications: Sequence[Publication]) -> None:
        """Queue publications; each learns its outcome by ``done``: at once while the broker cannot be reached."""
        self._wanted.set()
        if self._unreachable:
            self._refuse(publications)
        else:
            self._queue.extend(publications)
        self._link.wake()

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages now (a memory or disk alarm)."""
        return self._link.blocked

    def stop(self) -> None:
        """Publish what is queued, then end."""
        self._stopping.set()
        self._link.wake()
        self.join(self._timeout + GRACE_SECONDS)

    def run(self) -> None:
        try:
            while not (self._stopping.is_set() and not self._queue and not self._in_flight):
                try:
                    self._turn()
                except Exception as error:
                    self._lose(error)
        finally:
            self._link.close()

    def _turn(self) -> None:
        if not self._link.connected:
            if not self._may_connect():
                return
            self._connect()
        if self._link.stale and not self._in_flight:  # everything is confirmed: a good moment
            self._link.disconnect()
            self._wanted.set()
            return
        self._write()
        self._link.wait(self._patience())
        self._expire()

    def _may_connect(self) -> bool:
        """Connect when somebody wants to publish; between attempts what arrives is answered at once."""
        wait = self._retry_at - time.monotonic()
        if wait > 0:
            self._refuse_queued()
        elif self._wanted.is_set() or self._queue:
            return True
        if not self._stopping.is_set():
            self._link.wait(min(wait, 1.0) if wait > 0 else 1.0)
        return False

    def _connect(self) -> None:
        try:
            self._link.connect()
            channel = self._link.channel()
            channel.confirm_select()
            declare(channel, Topology((main_exchange(self._names),)))
        except Exception:
            self._unreachable = True
            raise
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._channel, self._tag = channel, 0
        self._undeclared = frozenset(exchange.name for exchange in self._ladder.exchanges)
        self._wanted.clear()
        self._unreachable, self._backoff, self.error = False, MIN_BACKOFF_SECONDS, ""

    def _write(self) -> None:
        if self._link.blocked:
            self.error = "the broker is short of memory or disk and takes no messages"
            self._refuse_queued()
            return
        self.error = ""
        while self._queue and len(self._in_flight) < WINDOW and not self._link.stale:
            publication = self._queue.popleft()
            if not publication.abandoned:
                self._write_one(publication)

    def _write_one(self, publication: Publication) -> None:
        room, size = self._link.frame_max - FRAME_OVERHEAD, header_size(publication.message)
        if size > room:  # the broker would close the connection, with everything in flight on it
            publication.done(Outcome("impossible", f"its headers of {size} bytes exceed the broker's {room}"))
            return
        if publication.exchange in self._undeclared and (why := self._declare_ladder()):
            publication.done(Outcome("refused", why))
            return
        publication.deadline = time.monotonic() + self._timeout
        self._tag += 1
        self._in_flight[self._tag] = publication
        arguments = (0, publication.exchange, publication.routing_key, True, False)
        try:
            # Not basic_publish: it reads whatever has arrived before each message.
            self._channel.send_method(spec.Basic.Publish, "Bssbb", arguments, publication.message)
        except _UNWRITABLE as error:
            del self._in_flight[self._tag]
            self._tag -= 1
            publication.done(Outcome("impossible", f"it cannot be written: {type(error).__name__}: {error}"))

    def _declare_ladder(self) -> str:
        """Declare where delayed messages wait; return why that cannot be, or nothing."""
        channel = self._link.channel()
        try:
            declare(channel, self._ladder)
        except ChannelError as error:
            return redact_text(f"the ladder of delays cannot be declared: {error}")
        channel.close()
        self._undeclared = frozenset()
        return ""

    def _patience(self) -> float:
        """How long to wait for frames: until the oldest confirm is due."""
        if self._queue and len(self._in_flight) < WINDOW and not self._link.stale:
            return 0.0
        if not self._in_flight:
            return 0.0 if self._stopping.is_set() else 1.0
        if self._link.blocked:
            return 1.0
        oldest = next(iter(self._in_flight.values()))
        return min(max(oldest.deadline - time.monotonic(), 0.0), 1.0)

    def _expire(self) -> None:
        if self._link.blocked or self._was_blocked:  # the time of an alarm counts for nobody
            self._was_blocked = self._link.blocked
            for publication in self._in_flight.values():
                publication.deadline = time.monotonic() + self._timeout
        elif self._in_flight and next(iter(self._in_flight.values())).deadline < time.monotonic():
            raise TimeoutError(f"no confirm within {self._timeout:g} s")

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for publication in self._settled(tag, multiple):
            reason = publication.returned
            publication.done(Outcome("returned", reason) if reason else Outcome("confirmed"))

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for publication in self._settled(tag, multiple):
            publication.done(Outcome("refused", "the broker refused it: a queue is full or it had an error"))

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        """Mark what was returned before its acknowledgement comes. One message may be under way to several groups."""
        address = (message.properties.get("message_id", ""), exchange, routing_key)
        for publication in self._in_flight.values():
            if publication.address == address:
                publication.returned = f"no queue receives {routing_key!r} from the exchange {exchange!r}"

    def _settled(self, tag: int, multiple: bool) -> list[Publication]:
        tags = list(takewhile(lambda known: known <= tag, self._in_flight)) if multiple else [tag]
        return [self._in_flight.pop(known) for known in tags if known in self._in_flight]

    def _lose(self, error: Exception) -> None:
        """The connection is gone or not to be trusted: what was written is unknown, what was not is unsent."""
        text = redact_text(f"{type(error).__name__}: {error}")
        if text != self.error:
            logger.warning("Publishing is interrupted: %s", text)
        self.error = text
        lost, self._in_flight, self._channel = self._in_flight, {}, None
        self._was_blocked = False
        self._link.disconnect(politely=False)
        self._retry_at = time.monotonic() + self._backoff
        self._backoff = min(self._backoff * 2, MAX_BACKOFF_SECONDS)
        for publication in lost.values():
            publication.done(Outcome("unknown", text))
        self._refuse_queued()

    def _refuse_queued(self) -> None:
        self._refuse([self._queue.popleft() for _ in range(len(self._queue))])

    def _refuse(self, publications: Sequence[Publication]) -> None:
        for publication in publications:
            publication.done(Outcome("unsent", self.error or "the broker cannot be reached"))
