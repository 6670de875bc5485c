"""Publishes messages, many in one round trip.

A message is added to the streams of all its groups by one script, or to none. The script does so only if the bindings
are still those that the groups were chosen by, so a group that was bound a moment ago misses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from koan_django.core.redaction import redact_text
from koan_django.messaging.buses.broker import Outcome
from koan_django.messaging.exceptions import MessagingError

from . import bindings, scripts
from .fields import to_fields
from .server import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from koan_django.messaging.envelope import Envelope

    from .bindings import Bindings
    from .names import Names
    from .server import Server

#: How much is written before the answers are read.
WINDOW, WINDOW_BYTES = 200, 4_000_000
#: Redis takes no longer value, and closes the connection: ``proto-max-bulk-len``.
LONGEST_BODY = 512 * 1024 * 1024
#: Each is another change of the bindings, or a server that has forgotten its scripts.
ROUNDS = 5
#: What the server answers when it can do nothing for the moment.
_NOT_NOW = (BusyLoadingError, ReadOnlyError, ClusterDownError)
_NOT_NOW_CODES = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "LOADING")


class Publisher:
    """The publishing side of one bus; its threads share the connections of the server's pool."""

    def __init__(self, server: Server, names: Names) -> None:
        self._server = server
        self._names = names
        self._bindings = bindings.NONE

    def publish(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Publish and wait for the answers, in order."""
        outcomes: dict[int, Outcome] = {}
        try:
            self._publish(envelopes, outcomes)
            missing = "the groups that receive it change all the time, or the connection was lost"
        except (MessagingError, RedisError, OSError) as error:
            missing = redact_text(str(error))
        except Exception as error:  # of a provider of secrets
            missing = redact_text(f"{type(error).__name__}: {error}")
        return [outcomes.get(number) or Outcome("unsent", missing) for number in range(len(envelopes))]

    def _publish(self, envelopes: Sequence[Envelope], outcomes: dict[int, Outcome]) -> None:
        """Fill in ``outcomes``, until a connection is lost: nobody waits for a silent server twice."""
        known = self._bindings if self._bindings is not bindings.NONE else self._refreshed()
        for _ in range(ROUNDS):
            for window in _windows(envelopes, [n for n in range(len(envelopes)) if n not in outcomes]):
                found = self._exchange(envelopes, window, known)
                outcomes |= found
                if any(outcome.state == "unknown" for outcome in found.values()):
                    return
            todo = [number for number in range(len(envelopes)) if number not in outcomes]
            if not todo:
                return
            known = self._refreshed()
            outcomes |= {n: _nobody(envelopes[n]) for n in todo if not known.receivers(envelopes[n])}

    def _refreshed(self) -> Bindings:
        self._server.examine()
        self._server.load(scripts.PUBLISH)
        self._bindings = bindings.read(self._server, self._names)
        return self._bindings

    def _exchange(self, envelopes: Sequence[Envelope], window: Sequence[int], known: Bindings) -> dict[int, Outcome]:
        """Publish a window; what is missing in the answer has to be addressed anew."""
        sent = [number for number in window if known.receivers(envelopes[number])]
        long = [number for number in sent if len(envelopes[number].body) > LONGEST_BODY]
        sent = [number for number in sent if number not in long]
        found = {number: Outcome("impossible", "its body is longer than Redis takes") for number in long}
        if not sent:
            return found
        commands = [self._command(envelopes[number], known) for number in sent]
        with self._server.answering():
            pool = self._server.client.connection_pool
            connection = pool.get_connection()
        replies: list[Any] = []
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                replies.append(_reply(connection))  # noqa: PERF401  # what came before a failure counts
        except (RedisError, OSError) as error:
            connection.disconnect()
            self._server.forget()
            text = redact_text(f"{type(error).__name__}: {error}")
            found |= {number: Outcome("unknown", text) for number in sent[len(replies) :]}
        finally:
            pool.release(connection)
        answered = zip(sent, replies, strict=False)  # without those that were lost
        found |= {number: outcome for number, reply in answered if (outcome := _outcome(reply)) is not None}
        return found

    def _command(self, envelope: Envelope, known: Bindings) -> tuple[Any, ...]:
        names = self._names
        streams = [names.stream(group, envelope.priority) for group in known.receivers(envelope)]
        keys = [names.version, names.asleep, *streams]
        head = ("EVALSHA", digest(scripts.PUBLISH), len(keys), *keys)
        return (*head, known.version, names.bell, *to_fields(envelope))


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except (ResponseError, BusyLoadingError) as error:
        return error


def _outcome(reply: Any) -> Outcome | None:
    """What a reply says; ``None`` when the message has to be addressed anew."""
    if reply == 1:
        return Outcome("confirmed")
    if reply == 0 or isinstance(reply, NoScriptError):
        return None
    text = f"{type(reply).__name__}: {reply}"
    if isinstance(reply, OutOfMemoryError):
        return Outcome("refused", f"Redis is short of memory: {reply}")
    if isinstance(reply, _NOT_NOW) or str(reply).startswith(_NOT_NOW_CODES):
        return Outcome("unsent", text)
    return Outcome("refused", text)


def _nobody(envelope: Envelope) -> Outcome:
    if envelope.group:
        return Outcome("returned", f"there is no stream of the group {envelope.group!r}")
    return Outcome("returned", f"no group's stream receives {envelope.alias!r}")


def _windows(envelopes: Sequence[Envelope], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Cut ``numbers`` where a window would be too large; a larger message is alone in its own."""
    window: list[int] = []
    size = 0
    for number in numbers:
        weight = len(envelopes[number].body)
        if window and (len(window) == WINDOW or size + weight > WINDOW_BYTES):
            yield window
            window, size = [], 0
        window.append(number)
        size += weight
    if window:
        yield window
