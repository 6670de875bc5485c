"""The way from the outbox to Celery's own broker: what is sent here are tasks, and workers run them as ever."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from amqp.exceptions import MessageNacked
from celery import current_app
from kombu.messaging import Producer

from koan_django.core.redaction import redact_text
from koan_django.messaging.conf import place_of
from koan_django.messaging.exceptions import CapabilityError, MessagingError
from koan_django.messaging.outgoing import parcels

from .base import Capabilities
from .broker import CONFIRMED, BrokerBus, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from koan_django.messaging.conf import BusOptions
    from koan_django.messaging.envelope import Envelope, Receipt
    from koan_django.messaging.handling.consumer import Consumer
    from koan_django.messaging.outgoing.parcels import Parcel

    from .base import Due, Pool

#: The broker has said nothing about it, so what follows waits.
_SILENT = frozenset({"unknown", "unsent"})


class CeleryBus(BrokerBus):
    """Publishes tasks that waited in the outbox, each confirmed where the broker confirms (RabbitMQ).

    No message and no handler is ever on it.
    """

    capabilities = Capabilities(
        transactional=False, durable=True, shared=True, ordered=False, copies=False, patterns=False
    )

    def __init__(self, alias: str, options: BusOptions) -> None:
        super().__init__(alias, options)
        self._lock = threading.Lock()
        self._link: _Link | None = None

    @property
    def place(self) -> str:
        try:
            uri = str(current_app.connection_for_write().as_uri())
        except Exception as error:  # of any transport
            return f"Celery's broker, which cannot be used: {_told(error)}"
        return f"{uri.partition('://')[0]}://{place_of(uri)} of Celery"

    def send(self, envelopes: Sequence[Envelope], due: Due, using: str | None = None) -> list[Receipt]:
        raise MessagingError(
            f"the bus {self.alias!r} carries no messages",
            why="its URL is celery://, the way of tasks to Celery's broker",
            fix="Send the message on another bus, or call a task that is an OutboxTask.",
        )

    async def asend(self, envelope: Envelope, due: Due, using: str | None = None) -> Receipt:
        return self.send([envelope], due, using)[0]

    def consumer(self, pool: Pool) -> Consumer:
        raise CapabilityError(f"no handler can listen on the bus {self.alias!r}", fix="Give the handler another bus=.")

    def probe(self) -> None:
        with current_app.connection_for_write(connect_timeout=self._patience) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def publish(self, envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        outcomes: list[Outcome] = []
        with self._lock:
            for envelope in envelopes:
                outcomes.append(self._publish(envelope))
                if outcomes[-1].state in _SILENT:
                    break
        rest = len(envelopes) - len(outcomes)
        return outcomes + [Outcome("unsent", outcomes[-1].reason) for _ in range(rest)]

    def _publish(self, envelope: Envelope) -> Outcome:
        try:
            parcel = parcels.unwrap(envelope)
        except msgspec.MsgspecError as error:
            return Outcome("impossible", f"the row holds no task: {error}")
        try:
            link = self._linked()
        except Exception as error:  # of any transport
            self._drop()
            return Outcome("unsent", f"Celery's broker cannot be reached: {_told(error)}")
        return self._sent(link, parcel)

    def _sent(self, link: _Link, parcel: Parcel) -> Outcome:
        try:
            returned = link.publish(parcel, self._patience)
        except MessageNacked:
            return Outcome("refused", "Celery's broker refused the task")
        except link.refusals as error:
            self._drop()  # a channel that has raised is closed
            return Outcome("refused", f"Celery's broker refused the task: {_told(error)}")
        except Exception as error:  # of any transport; it may have been written
            self._drop()
            return Outcome("unknown", f"no confirm of Celery's broker: {_told(error)}")
        return Outcome("returned", f"no queue receives it: {returned}") if returned else CONFIRMED

    @property
    def _patience(self) -> float:
        return self.options.confirm_timeout.total_seconds()

    def _linked(self) -> _Link:
        if self._link is None or self._link.pid != os.getpid():
            self._link = _Link(self._patience)
        return self._link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None and link.pid == os.getpid():
            link.close()


class _Link:
    """A connection of one process to Celery's broker, which confirms what it has where it can."""

    def __init__(self, patience: float) -> None:
        self.pid = os.getpid()
        self._connection = current_app.connection_for_write(
            connect_timeout=patience, transport_options={"confirm_publish": True}
        )
        self._connection.ensure_connection(max_retries=1, interval_start=0)
        self._returned: list[str] = []
        # Only a channel of AMQP has events; kombu asks any other for them in vain.
        returns = hasattr(self._connection.default_channel, "events")
        self._producer = Producer(self._connection, auto_declare=False, on_return=self._note if returns else None)
        self.refusals: tuple[type[Exception], ...] = tuple(self._connection.channel_errors)

    def publish(self, parcel: Parcel, patience: float) -> str:
        """Publish and wait for the confirm; return why it routes nowhere, or nothing."""
        self._returned.clear()
        self._producer.publish(
            bytes(parcel.body),
            content_type="application/json",
            content_encoding="utf-8",
            headers=dict(parcel.headers),
            exchange=parcel.exchange,
            routing_key=parcel.routing_key,
            declare=_declared(parcel.queue),
            delivery_mode=parcel.delivery_mode,
            compression=parcel.compression,
            mandatory=True,
            timeout=patience,
            confirm_timeout=patience,
            **parcel.properties,
        )
        return "; ".join(self._returned)

    def close(self) -> None:
        with suppress(Exception):
            self._connection.collect(socket_timeout=0.1)

    def _note(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._returned.append(f"exchange {exchange!r}, routing key {routing_key!r}")


def _declared(name: str | None) -> list[Any]:
    """The queue called ``name``, as the app declares it; one that it does not know must be there already."""
    try:
        return [] if name is None else [current_app.amqp.queues[name]]
    except KeyError:
        return []


def _told(error: Exception) -> str:
    return redact_text(f"{type(error).__name__}: {error}")
