"""Urgent messages go first on RabbitMQ, for a bus that asks for it."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks

from koan_django.core.exceptions import PermanentError
from koan_django.messaging import send_many
from koan_django.messaging.buses.amqp.topology import declare
from koan_django.messaging.conf import BusOptions
from koan_django.messaging.models import DeadLetter
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.wire import Wire
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_waits_is_handed_out_by_its_priority_and_then_by_its_age(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url, PRIORITIES=True, REQUIRE=["priorities"])
    assert bus.capabilities.priorities
    assert not [found for found in run_checks() if found.id == "koan_messaging.E009"]
    with listening(OrderPlaced, group="billing") as arrived:
        declare(wire.channel, bus.topology())
        for number, priority in enumerate([0, 5, 9, 5, 0, 1]):
            OrderPlaced(number).send(priority=priority)
        wait_until(lambda: wire.depth(bus.names.group("billing")) == 6, what="all to wait")
        with running(1):
            wait_until(lambda: len(arrived) == 6, 20, "all to arrive")
    assert [message.number for message, _ in arrived] == [2, 1, 3, 5, 0, 4]


def test_retries_and_dead_letters_go_their_way_all_the_same(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url, PRIORITIES=True)
    attempts: list[int] = []

    def fail(message: OrderPlaced) -> None:
        attempts.append(message.number)
        raise PermanentError("no") if message.number else ConnectionError("not now")

    with listening(OrderPlaced, fail, group="billing"), running():
        send_many([OrderPlaced(0), OrderPlaced(1)])
        wait_until(lambda: DeadLetter.objects.count() == 2, 20, "both to be given up")
    assert sorted(attempts) == [0, 0, 0, 1]


def test_order_comes_before_priority(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url, PRIORITIES=True)
    with listening(StockMoved, group="stock") as arrived:
        declare(wire.channel, bus.topology())
        for number in range(4):
            StockMoved("a", number).send(priority=number)
        with running(1):
            wait_until(lambda: len(arrived) == 4, 20, "all to arrive")
    assert [message.count for message, _ in arrived] == [0, 1, 2, 3]


def test_only_rabbitmq_is_asked_for_them() -> None:
    with pytest.raises(ValueError, match="PRIORITIES is for RabbitMQ"):
        BusOptions(url="database://", priorities=True)
