"""The breaker of a bus: what one process found out keeps the others from waiting for a broker that is down."""

from __future__ import annotations

from typing import Any

import pytest

from koan_django.messaging.buses.amqp.bus import AmqpBus
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.models import OutboxMessage
from koan_django.testing import frozen_clock
from tests.messaging.conftest import UseBus
from tests.messaging.wire import Wire
from tests.services.proxy import Proxy

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def send(bus: Any, identifier: str) -> str:
    [receipt] = bus.send([Envelope(identifier, "order.placed", 1, b"{}", {}, "order.placed.p", group="billing")], None)
    return receipt.state


def test_another_process_does_not_even_try_until_it_is_time(
    use_bus: UseBus, proxy: Proxy, through: str, wire: Wire
) -> None:
    bus = use_bus(through)
    queue = wire.queue(bus.names.group("billing"))
    other = AmqpBus("main", bus.options)
    proxy.shut()
    with frozen_clock() as clock:
        assert [send(bus, f"a{number}") for number in range(5)] == ["accepted"] * 5
        assert send(other, "b") == "accepted"
        assert other._publishers == {}
        assert "the breaker 'messaging.main' is open" in OutboxMessage.objects.get(message_id="b").last_error
        proxy.open()
        clock.advance(seconds=5)
        assert send(other, "c") == "published"
        assert other.breaker.state == "closed"
    other.close()
    assert [each.properties["message_id"] for each in wire.take(queue)] == ["c"]
    assert OutboxMessage.objects.count() == 6


def test_a_broker_that_answers_no_is_not_down(use_bus: UseBus, vhost: Any, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    wire.queue(bus.names.group("billing"), **{"x-max-length": 1, "x-overflow": "reject-publish"})
    states = [send(bus, f"m{number}") for number in range(8)]
    assert states == ["published", *["accepted"] * 7]
    assert bus.breaker.state == "closed"
