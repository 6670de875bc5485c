"""Confirmed publishes: one after the other, and many at once."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any

from benchmarks.harness import Case, Side, seconds_each

from .queues import TEXT, declare, declared, waiting

#: Messages of a turn: one after the other, by a peer that waits for each, delayed by it, and many at once. The delayed
#: ones must all be there before the first is due.
ONE, SLOW, DELAYED, MANY = 50, 300, 150, 4000
#: Gathered publishes of FastStream: more of them at once were slower.
GATHERED = 256
WINDOW = 1024
Publish = Callable[..., object]
_EACH = (
    "Messages of 1 KB, JSON, persistent, confirmed by the broker each, to a {kind} queue, from one thread. Ours are"
    " mandatory and return a receipt each. "
)
_OFF = "TRAIL is off: neither writes to a database. "
_WHOLE = "TRAIL as it comes: ours also commits two rows about each message to PostgreSQL, with fsync. "


def cases() -> list[Case]:
    """Return the cases."""
    kombu, celery, amqp, faststream = (
        f"{name} {version(package)}"
        for name, package in (
            ("kombu", "kombu"),
            ("Celery", "celery"),
            ("py-amqp", "amqp"),
            ("FastStream", "faststream"),
        )
    )
    many = partial(_many, _send_many)
    return [
        _case("publish-one/kombu", kombu, 1, partial(_one, "off"), _OFF, rounds=90),
        _case("publish-one/kombu/same-way", kombu, 0, partial(_one, "off", same_way=True), _SAME_WAY, rounds=90),
        _case("publish-one/kombu/trail", kombu, 0.2, partial(_one, "all"), _WHOLE, rounds=45),
        *(
            _case(f"publish-many/kombu/{kind}", kombu, 5, partial(many, _kombu, kind), _KOMBU, kind)
            for kind in ("classic", "quorum")
        ),
        _case("publish-many/kombu/quorum/trail", kombu, 1, partial(many, _kombu, "quorum", "all"), _KOMBU_TRAIL),
        _case("publish-many/celery", celery, 10, partial(many, _celery), _CELERY),
        _case("publish-many/faststream", faststream, 3, partial(many, _faststream), _FASTSTREAM),
        _case("publish-many-async/faststream", faststream, 3, partial(_many, _asend, _faststream), _ASYNC),
        _case("publish-many/pyamqp-pipelined", amqp, 0.83, partial(many, _pipelined), _PIPELINED),
        *(
            _case(f"publish-delayed/celery/{seconds}s", celery, 10, partial(_delayed, seconds), _DELAYED, rounds=5)
            for seconds in (8, 64)
        ),
    ]


_SAME_WAY = (
    _OFF
    + "kombu publishes to our topic exchange, mandatory, into our queue: the difference that is left is the clients'."
    " Told beside it, without a goal."
)
_KOMBU = _OFF + "Ours by one send_many; kombu with confirm_publish, and without mandatory."
_KOMBU_TRAIL = _WHOLE + "Else as without the trail."
_CELERY = _OFF + "Ours by one send_many; Celery by apply_async with confirm_publish, its producer kept."
_FASTSTREAM = _OFF + f"Ours by one send_many; FastStream by publishes with confirms, {GATHERED} gathered at a time."
_ASYNC = _OFF + f"Both by awaited publishes: ours asend, all gathered; FastStream's {GATHERED} gathered at a time."
_PIPELINED = (
    _OFF
    + f"Ours by one send_many; py-amqp with {WINDOW} unconfirmed at most, the same bytes each time, no id, no headers,"
    " no mandatory, and nothing returned to the caller."
)


_DELAYED = (
    _OFF + "Ours by one send_many with delay=, on the ladder of quorum queues in the broker; Celery by apply_async with"
    " countdown= and its native delayed delivery on quorum queues, with confirm_publish, its producer kept. Both are"
    " found in the queue in which they wait."
)


def _case(
    name: str,
    peer: str,
    goal: float,
    sides: Callable[[], AbstractContextManager[tuple[Side, Side]]],
    note: str,
    kind: str = "quorum",
    rounds: int = 9,
) -> Case:
    return Case(
        name=name,
        peer_name=peer,
        unit="msg/s",
        goal=goal,
        sides=sides,
        note=_EACH.format(kind=kind) + note,
        rounds=rounds,
        with_cpu=name.startswith("publish-one"),  # in the others a turn is not the same number of messages
    )


# the sides


@contextmanager
def _one(trail: str, *, same_way: bool = False) -> Iterator[tuple[Side, Side]]:
    from benchmarks.project.messages import Empty
    from koan_django.messaging.buses import registry
    from koan_django.messaging.routing import routing_key

    with _broker(trail, "quorum") as (channel, ours):
        way: dict[str, Any] = {"routing_key": "peer"}
        if same_way:
            exchange, key = registry.get("main").names.exchange, routing_key(Empty._meta.alias, None)
            way = {"exchange": exchange, "routing_key": key, "mandatory": True}
        with _kombu_publish(**way) as publish:
            rate = partial(_rate_of_each, channel)
            to = ours if same_way else "peer"
            yield partial(rate, ours, lambda: Empty(number=0, text=TEXT).send()), partial(rate, to, publish)


@contextmanager
def _many(
    ours: Callable[[int], object],
    peer: Callable[[], AbstractContextManager[tuple[Callable[[int], object], int]]],
    kind: str = "quorum",
    trail: str = "off",
) -> Iterator[tuple[Side, Side]]:
    with _broker(trail, kind) as (channel, queue), peer() as (publish, count):
        yield partial(_rate, channel, queue, ours, MANY), partial(_rate, channel, "peer", publish, count)


@contextmanager
def _delayed(seconds: int) -> Iterator[tuple[Side, Side]]:
    """Both publish what is due in ``seconds``, a power of two, so that it waits in one queue."""
    from koan_django.messaging.buses import registry

    level = seconds.bit_length() - 1
    with _broker("off", "quorum") as (channel, _), _celery_delayed(seconds) as publish:
        ours, peer = registry.get("main").names.delay(level), f"celery_delayed_{level}"
        send = partial(_send_many, delay=timedelta(seconds=seconds))
        yield partial(_rate, channel, ours, send, MANY), partial(_rate, channel, peer, publish, DELAYED)


@contextmanager
def _broker(trail: str, kind: str) -> Iterator[tuple[Any, str]]:
    """Yield a channel of the benchmark's own and the name of our queue; the peer's is called ``peer``."""
    from django.conf import settings
    from kombu import Connection

    from koan_django.messaging.buses import registry
    from koan_django.testing import override_koan

    with (
        override_koan(MESSAGING=settings.KOAN["MESSAGING"] | {"TRAIL": trail}),
        Connection(settings.AMQP_URL) as connection,
    ):
        channel = connection.default_channel
        declare(channel, "peer", kind)
        yield channel, declared(channel, kind)
        registry.reset()


def _rate_of_each(channel: Any, queue: str, publish: Publish) -> float:
    each = seconds_each(publish, ONE)
    channel.queue_purge(queue)
    return 1 / each


def _rate(channel: Any, queue: str, publish: Callable[[int], object], count: int) -> float:
    began = time.perf_counter()
    publish(count)
    took = time.perf_counter() - began
    found = waiting(channel, queue)
    assert found == count, f"{found} of {count} are in {queue} after {took:.1f} s"
    channel.queue_purge(queue)
    return count / took


# ours


def _send_many(count: int, delay: timedelta | None = None) -> object:
    from benchmarks.project.messages import Empty
    from koan_django.messaging import send_many

    return send_many((Empty(number=number, text=TEXT) for number in range(count)), delay=delay)


def _asend(count: int) -> object:
    from benchmarks.project.messages import Empty

    async def send() -> object:
        return await asyncio.gather(*(Empty(number=number, text=TEXT).asend() for number in range(count)))

    return asyncio.run(send())


# the peers


@contextmanager
def _kombu_publish(**way: Any) -> Iterator[Publish]:
    from django.conf import settings
    from kombu import Connection

    headers = {"correlation": uuid.uuid4().hex}
    with Connection(settings.AMQP_URL, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer(connection.default_channel)
        body = {"number": 0, "text": TEXT}
        yield lambda: producer.publish(body, serializer="json", delivery_mode=2, headers=headers, **way)


@contextmanager
def _kombu() -> Iterator[tuple[Callable[[int], object], int]]:
    with _kombu_publish(routing_key="peer") as publish:
        yield lambda count: [publish() for _ in range(count)], SLOW


@contextmanager
def _celery() -> Iterator[tuple[Callable[[int], object], int]]:
    from kombu import Queue

    from benchmarks.project.peer import app
    from benchmarks.project.tasks import empty

    app.conf.broker_transport_options = {"confirm_publish": True}
    app.amqp.queues.add(Queue("peer", routing_key="peer", no_declare=True))

    def publish(count: int) -> None:
        for number in range(count):
            empty.apply_async((number, TEXT), queue="peer", producer=producer)

    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        yield publish, SLOW


@contextmanager
def _celery_delayed(seconds: int) -> Iterator[Publish]:
    from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues

    from benchmarks.project.peer import app
    from benchmarks.project.tasks import empty

    app.conf.broker_transport_options = {"confirm_publish": True}

    def publish(count: int) -> None:
        for number in range(count):
            empty.apply_async((number, TEXT), queue="delayed", countdown=seconds, producer=producer)

    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
        yield publish


@contextmanager
def _faststream() -> Iterator[tuple[Callable[[int], object], int]]:
    from django.conf import settings
    from faststream.rabbit import RabbitBroker

    broker = RabbitBroker(settings.AMQP_URL, logger=None)

    async def publish(count: int) -> None:
        for first in range(0, count, GATHERED):
            numbers = range(first, min(first + GATHERED, count))
            await asyncio.gather(
                *(broker.publish({"number": n, "text": TEXT}, queue="peer", persist=True) for n in numbers)
            )

    with asyncio.Runner() as runner:
        runner.run(broker.connect())
        try:
            yield lambda count: runner.run(publish(count)), 4 * GATHERED
        finally:
            runner.run(broker.stop())


@contextmanager
def _pipelined() -> Iterator[tuple[Callable[[int], object], int]]:
    from amqp.basic_message import Message
    from django.conf import settings
    from kombu import Connection

    # One second is the default, which a broker that slows down a fast publisher exceeds.
    options = {"socket_settings": {socket.TCP_USER_TIMEOUT: 60_000}}
    body = json.dumps({"number": 0, "text": TEXT})
    with Connection(settings.AMQP_URL, transport_options=options) as connection:
        channel = connection.default_channel
        channel.confirm_select()
        waiting_for: set[int] = set()
        published = confirmed = 0

        def on_ack(tag: int, multiple: bool) -> None:
            nonlocal confirmed
            if multiple:
                waiting_for.difference_update(range(confirmed + 1, tag + 1))
                confirmed = max(confirmed, tag)
            else:
                waiting_for.discard(tag)

        channel.events["basic_ack"].add(on_ack)

        def publish(count: int) -> None:
            nonlocal published
            for _ in range(count):
                while len(waiting_for) >= WINDOW:
                    connection.drain_events()
                message = Message(body, content_type="application/json", delivery_mode=2)
                published += 1
                waiting_for.add(published)  # before it is written: the confirm may be read while it is
                channel.basic_publish(message, exchange="", routing_key="peer")
            while waiting_for:
                connection.drain_events()

        yield publish, MANY
