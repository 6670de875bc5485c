"""A connection of kombu's, for one thread at a time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from kombu.connection import Connection

from koan_django.core.context import new_id
from koan_django.core.redaction import redact_text
from koan_django.core.templating import render
from koan_django.core.texts import clean
from koan_django.messaging import envelope as wire
from koan_django.messaging.cleaning import clean_headers, identifier, whole
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.exceptions import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Azure keeps the lock of a message while its handler works, an hour at most; a look at an empty queue takes a second.
TRANSPORT_OPTIONS: Mapping[str, object] = {"use_lock_renewal": True, "wait_time_seconds": 1, "retry_total": 1}
_WHY = "the namespace does not exist or cannot be reached, or the policy or its key is wrong"


class Link:
    """Opened on first use, thrown away after any error."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url, self._prefix = url, prefix
        self._connection: Any = None
        self._declared: set[str] = set()

    def queue(self, group: str) -> str:
        """Return the queue of a group."""
        return f"{self._prefix}.{group}"

    def put(self, envelope: Envelope, group: str) -> None:
        """Write to the queue of ``group``; returns when the service has it."""
        with self.opened() as channel:
            name = self._declare(channel, group)
            message = channel.prepare_message(
                envelope.body,
                content_type="application/octet-stream",
                content_encoding="binary",
                headers={
                    "id": envelope.id,
                    "type": envelope.alias,
                    "version": envelope.version,
                    "attempt": envelope.attempt,
                    "priority": envelope.priority,
                    "routing-key": envelope.routing_key,
                    "headers": dict(envelope.headers),
                },
            )
            channel.basic_publish(message, exchange="", routing_key=name)

    def take(self, group: str) -> Any | None:
        """Take one message of ``group`` under a lock, or ``None``."""
        with self.opened() as channel:
            return channel.basic_get(self._declare(channel, group))

    def finish(self, tag: str) -> None:
        """Delete what was taken. When the lock is lost meanwhile, the service hands the message out again."""
        with self.opened() as channel:
            channel.basic_ack(tag)

    def close(self) -> None:
        """Let go of the connection; what was taken and not finished comes again when its lock ends."""
        connection, self._connection = self._connection, None
        self._declared.clear()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield the channel; raises :class:`BusUnavailableError`."""
        try:
            if self._connection is None:
                self._connection = Connection(render(self._url), transport_options=dict(TRANSPORT_OPTIONS))
            yield self._connection.default_channel
        except Exception as error:  # the SDK has dozens of its own
            self.close()
            raise BusUnavailableError(
                f"Azure Service Bus does not answer: {redact_text(f'{type(error).__name__}: {error}')}",
                why=_WHY,
                fix="Correct the URL: azureservicebus://POLICY:KEY@NAMESPACE, with a policy that may manage queues.",
            ) from error

    def _declare(self, channel: Any, group: str) -> str:
        name = self.queue(group)
        if group not in self._declared:
            channel.queue_declare(queue=name, durable=True)
            self._declared.add(group)
        return name


def envelope_of(message: Any, group: str) -> Envelope:
    """Return what a message holds; what a stranger left out or wrote strangely is put right."""
    found = message.headers if isinstance(message.headers, dict) else {}
    body = message.body
    given = found.get("headers")
    return Envelope(
        id=identifier(str(found.get("id") or new_id())),
        alias=clean(str(found.get("type", "")), wire.ALIAS_LENGTH),
        version=whole(found.get("version", 1)),
        body=body if isinstance(body, bytes) else str(body).encode(),
        headers=clean_headers(given) if isinstance(given, dict) else {},
        routing_key=clean(str(found.get("routing-key", "")), 255),
        group=group,
        attempt=whole(found.get("attempt", 1)),
        priority=min(whole(found.get("priority", 0), least=0), 9),
    )
