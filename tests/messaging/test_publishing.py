"""Sending by the public API on a real broker: together, awaited, inside a transaction, and while it takes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from koan_django.core import health
from koan_django.messaging import UnroutableError, send_many
from koan_django.messaging.buses.amqp.link import Link
from koan_django.messaging.envelope import Receipt
from koan_django.messaging.models import OutboxMessage
from koan_django.messaging.outgoing import outbox
from tests.messaging.conftest import UseBus
from tests.messaging.shop import OrderPaid, OrderPlaced
from tests.messaging.wire import Wire, wired
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def queue(use_bus: UseBus, vhost: Vhost, wire: Wire) -> str:
    """Where orders go; nobody receives payments."""
    return bound(use_bus(vhost.url), wire)


def bound(bus: Any, wire: Wire) -> str:
    assert bus.send([], None) == []
    bus.publish([])
    wire.channel.exchange_declare(bus.names.exchange, "topic", durable=True, auto_delete=False)
    queue = wire.queue(bus.names.group("billing"))
    wire.channel.queue_bind(queue, bus.names.exchange, "order.placed.*")
    return queue


def ids(wire: Wire, queue: str) -> list[str]:
    return [each.properties["message_id"] for each in wire.take(queue)]


@pytest.fixture
def admitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages came each time that the database was asked whether they may leave."""
    found: list[int] = []
    ask = outbox.must_store

    def counted(bus: str, envelopes: Any, using: str | None) -> str:
        found.append(len(envelopes))
        return ask(bus, envelopes, using)

    monkeypatch.setattr(outbox, "must_store", counted)
    return found


def test_what_is_awaited_together_goes_together_and_each_caller_gets_its_own_answer(
    queue: str, wire: Wire, admitted: list[int]
) -> None:
    async def send() -> list[Any]:
        messages = [OrderPaid(n) if n % 10 == 0 else OrderPlaced(n) for n in range(300)]
        return await asyncio.gather(*(each.asend() for each in messages), return_exceptions=True)

    answers = async_to_sync(send)()
    assert admitted == [300]
    lost = [n for n, answer in enumerate(answers) if isinstance(answer, UnroutableError)]
    assert lost == list(range(0, 300, 10))
    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    assert {receipt.state for receipt in receipts} == {"published"}
    assert ids(wire, queue) == [receipt.id for receipt in receipts]
    assert "of this call" not in str(answers[0])


def test_a_caller_that_is_cancelled_harms_no_other(queue: str, wire: Wire) -> None:
    async def send() -> Receipt:
        gone, stays = (asyncio.ensure_future(OrderPlaced(n).asend()) for n in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await stays

    receipt = async_to_sync(send)()
    assert receipt.state == "published"
    assert receipt.id in ids(wire, queue)


def test_awaited_sends_wait_in_the_outbox_while_their_thread_has_a_transaction(queue: str, wire: Wire) -> None:
    async def send() -> list[Receipt]:
        return await asyncio.gather(*(OrderPlaced(n).asend() for n in range(5)))

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        assert {receipt.state for receipt in async_to_sync(send)()} == {"accepted"}
        assert OutboxMessage.objects.count() == 5
        raise ZeroDivisionError
    assert not OutboxMessage.objects.exists()
    assert wire.depth(queue) == 0


@pytest.fixture
def broker_io(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that talked to a broker, once for each time."""
    found: list[int] = []

    def counted(name: str) -> Callable[..., Any]:
        whole = getattr(Link, name)

        def call(*arguments: Any) -> Any:
            found.append(threading.get_ident())
            return whole(*arguments)

        return call

    for name in ("connect", "write", "wait"):
        monkeypatch.setattr(Link, name, counted(name))
    return found


def test_inside_a_transaction_the_callers_thread_does_not_talk_to_the_broker(
    queue: str, wire: Wire, broker_io: list[int]
) -> None:
    me = threading.get_ident()
    OrderPlaced(0).send()  # connects
    before = broker_io.count(me)
    with transaction.atomic():
        OrderPlaced(1).send()
        send_many(OrderPlaced(n) for n in range(20))
        async_to_sync(OrderPlaced(2).asend)()
    assert broker_io.count(me) == before
    OrderPlaced(3).send()
    assert broker_io.count(me) > before  # it is what is counted: here the caller publishes by itself
    assert OutboxMessage.objects.count() == 22
    assert wire.depth(queue) == 2


@pytest.fixture
def alarm(own_rabbitmq: RabbitMQ) -> Iterator[Callable[[bool], object]]:
    """Bring the broker into trouble, and out of it."""

    def raise_it(on: bool) -> object:
        return own_rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1MB" if on else "1GB")

    yield raise_it
    raise_it(False)


def test_while_the_broker_takes_nothing_messages_wait_in_the_outbox_and_health_says_so(
    own_rabbitmq: RabbitMQ, use_bus: UseBus, alarm: Callable[[bool], object]
) -> None:
    def finding() -> str:
        found = {each.name: each for each in health.aggregate().findings}.get("messaging.publisher.main")
        return f"{found.status}: {found.message}" if found else ""

    with own_rabbitmq.vhost() as vhost, wired(vhost.url) as wire:
        bus = use_bus(vhost.url, CONFIRM_TIMEOUT=1)
        queue = bound(bus, wire)
        assert OrderPlaced(0).send().state == "published"
        alarm(True)
        stuck = threading.Thread(target=bus.publish, args=[[]])
        stuck.start()
        first = threading.Thread(target=_publish_one, args=[bus])
        first.start()  # the broker blocks a connection at its first publish
        wait_until(lambda: bus.publisher.blocked, 20, "the broker to say that it is blocked")
        receipts = [OrderPlaced(n).send() for n in range(3)]
        assert {receipt.state for receipt in receipts} == {"accepted"}
        assert OutboxMessage.objects.count() == 3
        assert "short of memory or disk" in OutboxMessage.objects.order_by("id")[0].last_error
        assert finding().startswith("degraded: the broker is short of memory or disk")
        alarm(False)
        wait_until(lambda: not bus.publisher.blocked, 30, "the alarm to end")
        wait_until(lambda: OrderPlaced(9).send().state == "published", 30, "messages to go through again")
        assert finding() == ""
        first.join(30)
        assert wire.depth(queue) >= 3


def _publish_one(bus: Any) -> None:
    from koan_django.messaging.outgoing.sending import wrap

    bus.publish([wrap(OrderPlaced(1), "main")])
