"""One AMQP connection, used by one thread at a time: its owner.

The owner waits for the broker's frames and for other threads at once: they call :meth:`Link.wake`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import socket
import ssl
import time
import weakref
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AccessRefused, AMQPError
from kombu.connection import Connection

from koan_django.core import process
from koan_django.core.bell import PipeBell
from koan_django.core.redaction import redact_text
from koan_django.core.rotation import Watched
from koan_django.core.templating import forget_values, render
from koan_django.messaging.conf import place_of
from koan_django.messaging.exceptions import BusUnavailableError, CredentialsRefusedError

from .arrivals import Ack
from .readahead import ReadAhead
from .tolerance import tolerant

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 5
#: For an answer to a declaration, for the rest of a frame that has begun, and for a write. A broker that takes longer
#: is taken for dead: py-amqp would wait without end.
REPLY_SECONDS = 10
CLOSE_SECONDS = 3
#: For so long after somebody listened to it a connection counts as looked at.
FRESH_SECONDS = 0.01
#: What a write may take so long for.
PIECE_BYTES = 128 * 1024
#: py-amqp sets one second, which a broker that is short of memory for a moment exceeds.
USER_TIMEOUT_MS = 60_000

#: Whose code raises the errors of a connection. Any other code runs by a signal in the middle of something.
_HOMES = frozenset({"amqp", "koan_django", "kombu", "selectors", "socket", "ssl", "vine"})

#: The parent's links in a forked child. They are kept: py-amqp shuts the socket of a connection that is collected, and
#: a shut-down reaches the parent.
_inherited: list[Link] = []
_links: weakref.WeakSet[Link] = weakref.WeakSet()


def is_of_connection(error: BaseException) -> bool:
    """Whether ``error`` says that the connection failed, and not that the caller is to stop, as by a time limit."""
    if not isinstance(error, Exception):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return where.partition(".")[0] in _HOMES


class Link:
    """A connection with its heartbeats and the bell by which others wake its owner.

    ``blocked`` while the broker takes no messages. ``stale`` once the credentials have rotated: the connection serves
    on, and its owner connects anew at a good moment.
    """

    def __init__(self, url: str, purpose: str, patience: float | None = None) -> None:
        """``patience`` is for who cannot wait as long as others: seconds for the connection, and for each answer."""
        self._url = url
        self._purpose = purpose
        self._connect_seconds, self._reply_seconds = patience or CONNECT_SECONDS, patience or REPLY_SECONDS
        self._connection: Any = None
        self._transport: Any = None
        #: When heartbeats were seen to last.
        self._ticked = 0.0
        #: Until when it counts as looked at.
        self.fresh_until = 0.0
        self._bell = PipeBell()
        # Not a selector, which asks the same of the system and takes longer than the system does.
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._socket: Any = None
        self._is_plain = False
        self._polled = -1
        self._ahead: ReadAhead | None = None
        self.blocked = self.stale = False
        #: The size of the largest frame that both sides agreed on, in bytes.
        self.frame_max = 0
        self._watched = Watched(url, self._rotated)
        _links.add(self)

    @property
    def connected(self) -> bool:
        """Whether the connection is up, as far as is known."""
        return self._transport is not None and bool(self._transport.connected)

    @property
    def is_ready(self) -> bool:
        """Whether messages may be written to it now."""
        transport = self._transport
        return transport is not None and transport.connected and not self.blocked and not self.stale

    @property
    def broker(self) -> str:
        """The name of the cluster at the other end."""
        return str(self._connection.server_properties.get("cluster_name", ""))

    def connect(self) -> None:
        """Connect; the URL's secrets are resolved now, so that a rotated password is picked up.

        Raises :class:`BusUnavailableError` with what the broker said, or what the secrets' own app raises.
        """
        self.disconnect()
        url = render(self._url)
        try:
            self._connection = self._established(url)
        except CredentialsRefusedError:
            forget_values()
            url, refused = render(self._url), url
            if url == refused:
                raise
            self._connection = self._established(url)
        self.stale = False
        self._watched.use(url)
        self._transport, self.frame_max = self._connection.transport, int(self._connection.frame_max)
        self._socket = self._connection.sock
        self._socket.settimeout(self._reply_seconds)
        self._ahead = ReadAhead.of(self._connection)
        self._is_plain = self._ahead.is_plain
        self._connection.on_inbound_frame = tolerant(self._connection.on_inbound_frame)
        self._polled = self._socket.fileno()
        self._poll.register(self._polled, select.POLLIN)
        self._ticked = time.monotonic()

    def _established(self, url: str) -> Any:
        on_alarm = {"on_blocked": _weakly(self._on_blocked), "on_unblocked": _weakly(self._on_unblocked)}
        return _established(url, self._purpose, self._connect_seconds, **on_alarm)

    def _rotated(self, url: str) -> None:
        """The URL has other credentials now. They are tried first: until they are good the old connection serves."""
        if self.connected:
            _established(url, f"{self._purpose} (trial)", self._connect_seconds).close()
            self.stale = True
            self.wake()

    def channel(self) -> Any:
        """Open a channel."""
        return self._connection.channel()

    def write(self, frames: bytes) -> None:
        """Write whole frames."""
        view = memoryview(frames)
        for at in range(0, len(view), PIECE_BYTES):
            piece, written = view[at : at + PIECE_BYTES], 0
            if self._is_plain:  # TLS has to see it first
                try:
                    # As much as the system takes now, which a socket with a time limit would ask for first. The number
                    # is asked for each time: that of a socket which py-amqp has closed may be another file's by now.
                    written = os.write(self._socket.fileno(), piece)
                except OSError as error:  # there is no room, or the transport will say what is wrong
                    if not is_of_connection(error):  # it is a time limit, and the piece may be written
                        raise
            if written < len(piece):
                self._transport.write(piece[written:])
            self._connection.bytes_sent += 1  # what the heartbeats go by

    def wake(self) -> None:
        """End the owner's :meth:`wait`; safe from any thread and in a signal handler."""
        self._bell.ring()

    def wait(self, seconds: float) -> None:
        """Wait for frames or a wake-up, at most ``seconds``; dispatch what arrived. Raises connection errors.

        Without a connection it waits for a wake-up only.
        """
        ahead = self._ahead
        arrived = ahead is not None and ahead.pending
        for descriptor, _ in self._poll.poll(0 if arrived else math.ceil(seconds * 1000)):
            if descriptor == self._polled:
                arrived = True
            else:
                self._bell.hush()
        if self._connection is None:
            return
        while arrived:
            if not self._take():
                # Not its blocking_read(), which sets a time limit each time: the socket has one.
                self._connection.on_inbound_frame(self._transport.read_frame())
            arrived = ahead is not None and ahead.pending
        now = time.monotonic()
        self.fresh_until = now + FRESH_SECONDS
        if now - self._ticked >= 1:
            self._ticked = now
            self._connection.heartbeat_tick()

    def look(self) -> None:
        """Dispatch the frames that are here already.

        A connection that turns out to have ended is left, which harms nobody who has nothing under way.
        """
        if not self.connected:
            return
        try:
            self.wait(0)
        except Exception as error:
            self.disconnect(politely=False)
            if not is_of_connection(error):
                raise
            logger.info("The connection has ended: %s", redact_text(f"{type(error).__name__}: {error}"))

    def _take(self) -> bool:
        """Dispatch a message or a confirm that is read without py-amqp; return whether there was one for anybody."""
        ahead = self._ahead
        found = ahead.peek() if ahead is not None else None
        channel = None if found is None else self._connection.channels.get(found.channel)
        if ahead is None or found is None or channel is None:
            return False
        if isinstance(found, Ack):
            ahead.at = found.end
            for confirmed in channel.events["basic_ack"]:
                confirmed(found.tag, found.multiple)
        else:
            arrived = channel.callbacks.get(found.consumer_tag)
            if arrived is None:
                return False
            ahead.at = found.end
            arrived(found.message)
        self._connection.bytes_recv += 1  # what the heartbeats go by
        return True

    def disconnect(self, *, politely: bool = True) -> None:
        """Close the connection: politely, if that works, so that the broker has read what was written."""
        connection, self._connection, self._transport = self._connection, None, None
        if self._socket is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._polled)
            if politely:
                with contextlib.suppress(Exception):
                    self._socket.settimeout(CLOSE_SECONDS)
                    connection.close()
            self._socket = self._ahead = None
            self._is_plain = False
        self.blocked = False
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect()

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Call ``method`` without keeping its object: py-amqp's and kombu's stay until the garbage is collected."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> None:
        found = reference()
        if found is not None:
            found(*arguments)

    return call


def _established(url: str, purpose: str, seconds: float, **options: Any) -> Any:
    try:
        connection = Connection(
            url,
            heartbeat=HEARTBEAT_SECONDS,
            connect_timeout=seconds,
            transport_options={
                "client_properties": {"connection_name": f"{process.identity()}:{purpose}"},
                "socket_settings": _socket_settings(),
                **options,
            },
        )
        if url.lower().startswith("amqps:"):
            connection.ssl = _tls(connection.ssl, connection.hostname or "")
        # Not Connection.connection: it tries a second time and sleeps in between.
        return connection.transport.establish_connection()
    except AccessRefused as error:
        raise CredentialsRefusedError(
            f"the broker at {_place(url)} cannot be reached",
            why=f"it refuses the user or the password: {redact_text(str(error))}",
            fix="Correct them in the URL, or in the secrets that it refers to.",
        ) from error
    except (OSError, AMQPError) as error:
        why = f"{type(error).__name__}: {redact_text(str(error))}"
        raise BusUnavailableError(f"the broker at {_place(url)} cannot be reached", why=why) from error
    except ValueError:  # its text may quote a piece of the password
        raise BusUnavailableError(
            f"the broker at {_place(url)} cannot be reached",
            why="the URL cannot be read",
            fix="Percent-encode what is reserved in its user, password and virtual host.",
        ) from None


def _tls(given: Any, host: str) -> dict[str, Any]:
    """Return what py-amqp needs to know who answers: it compares the name in a certificate with what it is told.

    The URL may say more: ``?ssl_ca_certs=/path/of/ca.pem``, and ``ssl_certfile`` and ``ssl_keyfile``.
    """
    named = {name.removeprefix("ssl_"): value for name, value in given.items()} if isinstance(given, dict) else {}
    if not named.pop("check_hostname", True) or named.get("cert_reqs") == ssl.CERT_NONE:
        host = ""
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host or None, **named}


def _place(url: str) -> str:
    return place_of(url) or "its URL"


def _socket_settings() -> dict[int, int]:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return {} if option is None else {option: USER_TIMEOUT_MS}


os.register_at_fork(after_in_child=lambda: _inherited.extend(_links))
