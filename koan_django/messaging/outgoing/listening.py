"""Listens for what :mod:`.notifying` tells: one connection for each process and database.

Listening is worth something only where notifications arrive. Behind a pooler that hands out connections by transaction
``LISTEN`` succeeds and nothing ever comes, so a notification from another connection has to arrive first.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from typing import TYPE_CHECKING, Any

from django.db import connections

from koan_django.core.redaction import redact_text
from koan_django.messaging.exceptions import BusUnavailableError

from .notifying import channel_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Wake = Callable[[], None]

logger = logging.getLogger(__name__)

#: How long a new subscription may wait until it is listened for.
PULSE_SECONDS = 0.5
ECHO_SECONDS = 3.0
#: After a connection was lost, and after no notification arrived: a pooler stays what it is.
RETRY_SECONDS, DEAF_SECONDS = 2.0, 60.0
#: A connection that has died without a word is noticed by a question, after so many pulses.
PULSES_PER_QUESTION = 60


class Listener(threading.Thread):
    """Calls who subscribed to a channel when it is notified. ``parameters`` are those of psycopg's ``connect``."""

    def __init__(self, parameters: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(name="koan-listener", daemon=True)
        self._parameters = parameters
        self._wakes: dict[str, list[Wake]] = {}
        self._heard: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.error = ""

    def hears(self, channel: str) -> bool:
        """Whether a notification of ``channel`` would arrive now."""
        return channel in self._heard

    def add(self, channel: str, wake: Wake) -> None:
        """Call ``wake`` for each notification, and whenever some may have been missed."""
        with self._lock:
            self._wakes.setdefault(channel, []).append(wake)

    def remove(self, channel: str, wake: Wake) -> bool:
        """Forget ``wake``; return whether others are left."""
        with self._lock:
            self._wakes[channel].remove(wake)
            if not self._wakes[channel]:
                del self._wakes[channel]
            return bool(self._wakes)

    def stop(self) -> None:
        """End within a pulse."""
        self._ended.set()

    def run(self) -> None:
        while not self._ended.is_set():
            pause = RETRY_SECONDS
            try:
                self._listen()
            except Exception as error:
                pause = DEAF_SECONDS if isinstance(error, BusUnavailableError) else RETRY_SECONDS
                self._note(error)
            finally:
                lost, self._heard = self._heard, frozenset()
                self._call(lost)  # they poll from now on
            self._ended.wait(pause)

    def _listen(self) -> None:
        import psycopg

        parameters = dict(self._parameters())
        with psycopg.connect(**parameters, autocommit=True) as connection:
            _try(connection, parameters)
            pulses = 0
            while not self._ended.is_set():
                self._follow(connection)
                notices = list(connection.notifies(timeout=PULSE_SECONDS, stop_after=1))
                self._call({notice.channel for notice in notices})
                pulses = 0 if notices else pulses + 1
                if pulses >= PULSES_PER_QUESTION:
                    connection.execute("SELECT 1")
                    pulses = 0

    def _follow(self, connection: Any) -> None:
        """Listen for what is subscribed to by now."""
        from psycopg.sql import SQL, Identifier

        with self._lock:
            wanted = frozenset(self._wakes)
        if wanted == self._heard:
            return
        new, old = wanted - self._heard, self._heard - wanted
        for word, channels in (("LISTEN", new), ("UNLISTEN", old)):
            for channel in channels:
                connection.execute(SQL(word + " {}").format(Identifier(channel)))
        self._heard, self.error = wanted, ""
        self._call(new)  # what was sent before is there already

    def _call(self, channels: frozenset[str] | set[str]) -> None:
        with self._lock:
            wakes = [wake for channel in channels for wake in self._wakes.get(channel, ())]
        for wake in wakes:
            wake()

    def _note(self, error: Exception) -> None:
        text = redact_text(f"{type(error).__name__}: {error}".strip())
        if text != self.error:
            logger.info("No notifications from the database, polling instead: %s", text)
        self.error = text


class Subscription:
    """What a thread that waits for a bus has of the listener of its process."""

    def __init__(self, bus: str, using: str, wake: Wake) -> None:
        self._key = (os.getpid(), using)
        self._channel, self._wake = channel_of(bus), wake
        with _lock:
            found = _listeners.get(self._key)
            if found is None:
                found = _listeners[self._key] = Listener(_parameters_of(using))
                found.start()
            found.add(self._channel, wake)
        self._listener = found

    @property
    def is_live(self) -> bool:
        """Whether notifications arrive."""
        return self._listener.hears(self._channel)

    def end(self) -> None:
        """Be called no more; the last one ends the listener."""
        with _lock:
            if not self._listener.remove(self._channel, self._wake):
                self._listener.stop()
                _listeners.pop(self._key, None)


def is_possible(using: str) -> bool:
    """Whether the database is PostgreSQL, by a driver that can wait for notifications."""
    if connections[using].vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)


def _parameters_of(using: str) -> Callable[[], Mapping[str, Any]]:
    """Asked at each connect: credentials may have been rotated meanwhile."""
    return lambda: connections[using].get_connection_params()


def _try(connection: Any, parameters: Mapping[str, Any]) -> None:
    """Raise unless a notification of another connection arrives."""
    import psycopg

    channel = f"koan_echo_{uuid.uuid4().hex}"
    connection.execute(f"LISTEN {channel}")
    with psycopg.connect(**parameters, autocommit=True) as other:
        other.execute("SELECT pg_notify(%s, '')", [channel])
    if not list(connection.notifies(timeout=ECHO_SECONDS, stop_after=1)):
        raise BusUnavailableError(
            "notifications of the database do not arrive",
            why="a pooler that hands out connections by transaction is between, or the server keeps them back",
            fix="Nothing: the bus polls. To stop trying, set NOTIFY to False.",
        )
    connection.execute(f"UNLISTEN {channel}")


_listeners: dict[tuple[int, str], Listener] = {}
_lock = threading.Lock()
