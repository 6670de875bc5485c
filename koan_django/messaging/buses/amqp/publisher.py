"""Publishes with confirms: one connection for each process, used by one thread at a time.

Confirms are matched by delivery tag and returns by what was published where. py-amqp's own wait takes any
acknowledgement for any message, which reports a false success after a timeout; here a channel that missed a confirm is
thrown away, and what was in flight on it is unknown.

A thread owns the connection, keeps its heartbeats and works off the queue. A caller who finds it idle does the work on
the spot instead, which saves two changes of thread; whatever others queue meanwhile goes along.

An exception may strike a caller at any point: a time limit, or the user's interrupt. So a message is in the queue or
among the unconfirmed until it is answered, and threads wake each other by a :class:`~koan_django.core.bell.Bell`.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from amqp.exceptions import ChannelError, FrameSyntaxError

from koan_django.core.bell import Bell
from koan_django.core.redaction import redact_text
from koan_django.messaging.buses.broker import CONFIRMED, Outcome

from . import frames
from .answers import Answers, abandon
from .link import Link, is_of_connection
from .properties import properties_of
from .topology import Topology, declare, delay_topology, sending_exchanges
from .unconfirmed import OPEN, Unconfirmed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from koan_django.messaging.conf import BusOptions

    from .names import Names
    from .unconfirmed import Publication

logger = logging.getLogger(__name__)

#: How many may be unanswered. RabbitMQ takes a tenth longer for each message of a quorum queue when there are more.
WINDOW = 256
#: What is written at once: enough for the system call not to matter.
CHUNK_BYTES = 64 * 1024
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 15.0
#: How often an idle connection is looked at.
IDLE_SECONDS = 1.0
#: A caller waits for the confirm; connecting may come on top, and each message takes its time.
GRACE_SECONDS, SECONDS_EACH = 6.0, 0.001
#: What a frame holds beside the properties of a message. The broker adds headers to those that it gives back.
FRAME_OVERHEAD = 2048
#: What is raised for a message that cannot be written, before anything is.
_UNWRITABLE = (FrameSyntaxError, struct.error, UnicodeError, TypeError)
_outcome = attrgetter("outcome")


class Publisher(threading.Thread):
    """The publisher of one bus in one process. ``error`` says why it publishes nothing now."""

    def __init__(self, options: BusOptions, names: Names) -> None:
        super().__init__(name="koan-publisher", daemon=True)
        self._exchanges = Topology(sending_exchanges(names, options))
        self._ladder = delay_topology(names, options.delay_in_broker)
        #: Exchanges of the ladder, until they are declared: by the first delayed message of a connection.
        self._undeclared: frozenset[str] = frozenset()
        self._declares = options.declares
        self._timeout = options.confirm_timeout.total_seconds()
        self._grace = self._timeout + GRACE_SECONDS
        self._link = Link(options.url or "", "publisher")
        #: Held by whoever uses the connection. It knows its owner, so that nobody else can give it back.
        self._owning = threading.RLock()
        self._queue: deque[Publication] = deque()
        self._in_flight = Unconfirmed()
        self._channel: Any = None
        self._work = Bell()
        self._wanted = False
        #: The last attempt to connect failed. Until one succeeds nobody is kept waiting.
        self._unreachable = False
        self._was_blocked = False
        self._retry_at = 0.0
        self._backoff = MIN_BACKOFF_SECONDS
        self._stopping = threading.Event()
        self.error = ""
        #: Whether it may be given messages: from the first moment until its thread has ended.
        self.serves = True

    def publish(self, publications: Sequence[Publication]) -> list[Outcome]:
        """Publish messages and wait for all outcomes, in order."""
        if not publications:
            return []
        if self._owning._is_owned():  # type: ignore[attr-defined]  # a signal came while this thread was writing
            return [Outcome("unsent", "this thread is in the middle of publishing")] * len(publications)
        limit = time.monotonic() + self._grace + len(publications) * SECONDS_EACH
        answers = self._lead(publications, limit)
        if answers is not None and not answers.are_complete:
            self._wait(answers, publications, limit)
        return list(map(_outcome, publications))

    def begin(self, publications: Sequence[Publication]) -> Callable[[], list[Outcome]]:
        """Have the thread of the publisher do what :meth:`publish` does; what is returned waits for the outcomes.

        Their time counts from now, and what is queued before them has its own.
        """
        limit = time.monotonic() + self._grace + (len(self._queue) + len(publications)) * SECONDS_EACH
        answers = Answers(publications)
        self.submit(publications)

        def outcomes() -> list[Outcome]:
            self._wait(answers, publications, limit)
            return list(map(_outcome, publications))

        return outcomes

    def _wait(self, answers: Answers, publications: Sequence[Publication], limit: float) -> None:
        """Wait for all ``answers``; what is not written by then is not written any more."""
        complete, is_complete = Bell(), False
        answers.when_complete(complete.ring)
        try:
            self._wake()
            is_complete = complete.wait(max(limit - time.monotonic(), 0.0))
        finally:
            if not is_complete:
                abandon(publications)

    async def apublish(self, publications: Sequence[Publication]) -> list[Outcome]:
        """Like :meth:`publish`, awaited: the event loop goes on, and no thread waits."""
        if not publications:
            return []
        loop, complete = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody wants to know any more
                loop.call_soon_threadsafe(complete.set)

        answers = Answers(publications)
        answers.when_complete(tell)
        self.submit(publications)
        try:
            async with asyncio.timeout(self._grace + len(publications) * SECONDS_EACH):
                await complete.wait()
        except TimeoutError:
            pass
        finally:
            if not complete.is_set():
                abandon(publications)
        return list(map(_outcome, publications))

    def submit(self, publications: Sequence[Publication]) -> None:
        """Queue publications; each tells by ``on_done`` when it has its outcome: at once while no broker is there."""
        self._accept(publications)
        self._wake()

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages now (a memory or disk alarm)."""
        return self._link.blocked

    @property
    def unreachable(self) -> str:
        """Why nothing can be published now, once an attempt to connect has failed."""
        return self.error if self._unreachable else ""

    def try_again(self) -> None:
        """Connect without waiting for the time of the next attempt."""
        self._retry_at = 0.0
        self._wanted = True
        self._wake()

    def stop(self) -> None:
        """Publish what is queued, then end."""
        self._stopping.set()
        self._wake()
        self.join(self._timeout + GRACE_SECONDS)

    # who does the work

    def run(self) -> None:
        try:
            while not (self._stopping.is_set() and self._is_idle):
                self._work.wait(self._pause())
                with self._owning:
                    self._serve()
        finally:
            self.serves = False
            with self._owning:
                self._link.disconnect()
                self._channel = None

    def _serve(self) -> None:
        """Work until nothing is left to be done."""
        while True:
            try:
                self._turn()
            except Exception as error:
                self._lose(error)
            if self._is_idle:
                return

    def _lead(self, publications: Sequence[Publication], limit: float) -> Answers | None:
        """Publish on the caller's thread, if the connection is up and nobody uses it. Return the answers still open.

        After an exception a frame may be half written.
        """
        at, count = 0, len(publications)
        try:
            if not self._owning.acquire(blocking=False):
                answers = Answers(publications)
                self._accept(publications)
                return answers
            try:
                self._accept(publications)
                while True:
                    while at < count and publications[at].outcome is not OPEN:
                        at += 1
                    if at == count or not self._link.is_ready or time.monotonic() >= limit:
                        break
                    self._turn()
            except BaseException as error:
                self._lose(error)
                if not is_of_connection(error):
                    raise
            if at == count:
                return None
            # Still the owner: nobody answers one of them meanwhile.
            return Answers([each for each in publications if each.outcome is OPEN])
        finally:
            try:
                self._owning.release()  # before any other step, at which an exception might strike
            except RuntimeError as error:  # it is another's
                if not is_of_connection(error):
                    raise
            if self._queue or self._in_flight:
                self._wake()

    @property
    def _is_idle(self) -> bool:
        return not self._queue and not self._in_flight

    def _pause(self) -> float:
        """How long to wait for work: not beyond the next attempt to connect, if anybody wants one."""
        if self._link.connected or not self._wanted:
            return IDLE_SECONDS
        return min(max(self._retry_at - time.monotonic(), 0.0), IDLE_SECONDS)

    def _accept(self, publications: Sequence[Publication]) -> None:
        """Queue publications, or refuse them at once."""
        self._wanted = True
        if not self._unreachable:
            self._queue.extend(publications)
            return
        for publication in publications:
            publication.done(self._unsent)

    def _wake(self) -> None:
        self._work.ring()
        self._link.wake()

    # the work, of the owner

    def _turn(self) -> None:
        link = self._link
        if not self._in_flight and time.monotonic() >= link.fresh_until:
            link.look()
        if link.is_ready:
            self.error = ""
        elif not self._prepare():
            return
        while self._queue and (chunk := self._chunk()):
            link.write(chunk)
        link.wait(self._patience())
        if self._in_flight or link.blocked or self._was_blocked:
            self._expire()

    def _prepare(self) -> bool:
        """Connect, and answer what cannot be written now; return whether there is a connection to listen to."""
        if not self._link.connected:
            if not self._may_connect():
                return False
            self._connect()
        if self._link.stale and not self._in_flight:  # everything is confirmed: a good moment
            self._link.disconnect()
            self._wanted = True
            return False
        self.error = ""
        if self._link.blocked:
            self.error = "the broker is short of memory or disk and takes no messages"
            self._refuse_queued()
        return True

    def _may_connect(self) -> bool:
        """Connect when somebody wants to publish; between attempts what arrives is answered at once."""
        if self._retry_at > time.monotonic():
            self._refuse_queued()
            return False
        return self._wanted or bool(self._queue)

    def _connect(self) -> None:
        try:
            self._link.connect()
            channel = self._link.channel()
            channel.confirm_select()
            declare(channel, self._exchanges, passive=not self._declares)
        except Exception:
            self._unreachable = True
            raise
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._channel, self._in_flight = channel, Unconfirmed()
        self._undeclared = frozenset(exchange.name for exchange in self._ladder.exchanges)
        self._wanted = self._unreachable = False
        self._backoff, self.error = MIN_BACKOFF_SECONDS, ""

    def _chunk(self) -> bytes:
        """Take from the queue what is written at once: nothing if nothing may be."""
        queue, in_flight = self._queue, self._in_flight
        if not self._link.is_ready:
            return b""
        pieces: list[bytes] = []
        size, deadline = 0, time.monotonic() + self._timeout
        while queue and size < CHUNK_BYTES and len(in_flight) < WINDOW:
            publication = queue[0]
            encoded = b"" if publication.abandoned else self._encoded(publication)
            if encoded:
                publication.deadline = deadline
                in_flight.add(publication)
                pieces.append(encoded)
                size += len(encoded)
            queue.popleft()
        return b"".join(pieces)

    def _encoded(self, publication: Publication) -> bytes:
        """Return the frames of a message; nothing if there is no way to write them, which its sender is told."""
        if publication.exchange in self._undeclared and (why := self._declare_ladder()):
            publication.done(Outcome("refused", why))
            return b""
        frame_max, envelope = self._link.frame_max, publication.envelope
        try:
            properties = properties_of(envelope, publication.extra, bare=publication.bare)
            if len(properties) <= frame_max - FRAME_OVERHEAD:
                where = self._channel.channel_id, publication.exchange, publication.routing_key
                return frames.publish(*where, properties, envelope.body, frame_max)
            # The broker would close the connection, with everything in flight on it.
            reason = f"its headers of {len(properties)} bytes exceed the broker's {frame_max - FRAME_OVERHEAD}"
        except _UNWRITABLE as error:
            reason = f"it cannot be written: {type(error).__name__}: {error}"
        publication.done(Outcome("impossible", reason))
        return b""

    def _declare_ladder(self) -> str:
        """Declare where delayed messages wait; return why that cannot be, or nothing."""
        channel = self._link.channel()
        try:
            declare(channel, self._ladder, passive=not self._declares)
        except ChannelError as error:
            return redact_text(f"the ladder of delays cannot be declared: {error}")
        channel.close()
        self._undeclared = frozenset()
        return ""

    def _patience(self) -> float:
        """How long to wait for frames: until the oldest confirm is due."""
        if not self._in_flight or (self._queue and len(self._in_flight) < WINDOW and self._link.is_ready):
            return 0.0
        if self._link.blocked:
            return 1.0
        oldest = next(iter(self._in_flight.values()))
        return min(max(oldest.deadline - time.monotonic(), 0.0), 1.0)

    def _expire(self) -> None:
        if self._link.blocked or self._was_blocked:  # the time of an alarm counts for nobody
            self._was_blocked = self._link.blocked
            self._in_flight.put_off(time.monotonic() + self._timeout)
        elif self._in_flight and self._in_flight.deadline < time.monotonic():
            raise TimeoutError(f"no confirm within {self._timeout:g} s")

    # what the broker says

    def _on_ack(self, tag: int, multiple: bool) -> None:
        in_flight = self._in_flight
        for each in in_flight.answered(tag, multiple):
            publication = in_flight[each]
            if in_flight.returned and in_flight.was_returned(publication):
                exchange, key = publication.exchange, publication.routing_key
                where = f" from the exchange {exchange!r}" if exchange else ""
                publication.done(Outcome("returned", f"no queue receives {key!r}{where}"))
            else:
                publication.outcome = CONFIRMED
                if publication.on_done is not None:  # of most messages nobody is told: their sender looks
                    publication.done(CONFIRMED)
            del in_flight[each]

    def _on_nack(self, tag: int, multiple: bool) -> None:
        in_flight = self._in_flight
        for each in in_flight.answered(tag, multiple):
            in_flight[each].done(Outcome("refused", "the broker refused it: a queue is full or it had an error"))
            del in_flight[each]

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._in_flight.note_return((message.properties.get("message_id", ""), exchange, routing_key))

    def _lose(self, error: BaseException) -> None:
        """The connection is gone or not to be trusted: what was written is unknown, what was not is unsent."""
        self._link.disconnect(politely=False)  # first: whatever comes next, nobody writes behind half a frame
        self._retry_at = time.monotonic() + self._backoff
        self._backoff = min(self._backoff * 2, MAX_BACKOFF_SECONDS)
        self._was_blocked = False
        text = redact_text(f"{type(error).__name__}: {error}")
        if text != self.error:
            logger.warning("Publishing is interrupted: %s", text)
        self.error = text
        for publication in self._in_flight.values():
            publication.done(Outcome("unknown", text))
        self._in_flight, self._channel = Unconfirmed(), None
        self._refuse_queued()

    def _refuse_queued(self) -> None:
        for _ in range(len(self._queue)):
            self._queue[0].done(self._unsent)
            self._queue.popleft()

    @property
    def _unsent(self) -> Outcome:
        return Outcome("unsent", self.error or "the broker cannot be reached")
