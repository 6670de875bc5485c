"""A handler that is paused again and again, on a broker that counts how often it has handed out a message."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from koan_django.core import telemetry
from koan_django.messaging import send_many
from koan_django.messaging.buses.amqp import consumer
from koan_django.messaging.control import pausing
from koan_django.messaging.models import DeadLetter
from koan_django.messaging.worker.runner import BusRunner
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.wire import Wire
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]
PAUSES = 4
COUNT = 30


@contextmanager
def noticing() -> Iterator[Callable[[str, int], None]]:
    """Yield what waits until the worker has noticed so many pauses (``held``) or their ends (``released``)."""
    noticed: list[str] = []
    end = telemetry.subscribe(lambda event: noticed.append(event.name.rpartition("_")[2]), "messaging.handler_")

    def notice(what: str, times: int) -> None:
        wait_until(lambda: noticed.count(what) >= times, 10, f"the worker to notice {what!r}")

    try:
        yield notice
    finally:
        end()


def deliveries(wire: Wire, queue: str) -> list[int]:
    """How often each message that is ready was handed out before."""
    found = [each.properties.get("application_headers") or {} for each in wire.take(queue)]
    return [int(headers.get("x-delivery-count", 0)) for headers in found]


def fetched(runner: BusRunner, source: Any) -> int:
    waiting: dict[Any, Any] = runner.consumers[0]._waiting  # type: ignore[attr-defined]  # RabbitMQ's has it
    return len(waiting.get(source, ()))


@pytest.mark.parametrize("keep", [600.0, 0.0], ids=["kept", "sent-to-the-end"])
def test_no_pause_brings_a_message_that_nobody_tried_nearer_to_the_dead_letters(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch, keep: float
) -> None:
    monkeypatch.setattr(consumer, "KEEP_SECONDS", keep)
    bus = use_bus(vhost.url)
    queue, free = bus.names.group("billing"), threading.Event()
    with (
        listening(OrderPlaced, lambda _: free.wait(20), group="billing", name="billing.open", atomic=False),
        noticing() as notice,
    ):
        with running(1) as runner:
            send_many([OrderPlaced(number) for number in range(COUNT)])
            wait_until(lambda: fetched(runner, "billing") >= COUNT - 2, 30, "the worker to fetch what it does not try")
            for number in range(1, PAUSES + 1):
                pausing.pause("billing.open")
                notice("held", number)
                if not keep:
                    wait_until(lambda: wire.depth(queue) == COUNT - 2, 30, "them to be in the queue")
                pausing.resume("billing.open")
                notice("released", number)
                wait_until(lambda: fetched(runner, "billing") >= COUNT - 2, 30, "them to be here")
            pausing.pause("billing.open")
            notice("held", PAUSES + 1)
            runner.drain()  # what is fetched goes back, which counts once
            free.set()
        counts = deliveries(wire, queue)
    assert len(counts) >= COUNT - 2
    assert max(counts) <= 1
    assert not DeadLetter.objects.exists()


def test_what_was_kept_during_a_pause_is_handled_before_what_came_later(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    free = threading.Event()
    with (
        listening(OrderPlaced, lambda _: free.wait(20), group="billing", name="billing.open", atomic=False) as arrived,
        noticing() as notice,
        running(1) as runner,
    ):
        send_many([OrderPlaced(number) for number in range(COUNT)])
        wait_until(lambda: fetched(runner, "billing") >= COUNT - 2, 30, "the worker to fetch them")
        pausing.pause("billing.open")
        notice("held", 1)
        send_many([OrderPlaced(number) for number in range(COUNT, COUNT + 10)])
        assert wire.depth(bus.names.group("billing")) == 10  # nobody consumes
        free.set()
        pausing.resume("billing.open")
        wait_until(lambda: len(arrived) == COUNT + 10, 30, "all of them")
    assert [message.number for message, _ in arrived] == list(range(COUNT + 10))


def test_an_ordered_group_that_is_held_for_long_has_nothing_here_and_goes_on_in_order(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ takes a channel away from whoever keeps a message for half an hour."""
    monkeypatch.setattr(consumer, "KEEP_SECONDS", 0.0)
    bus = use_bus(vhost.url, PARTITIONS=1)
    free = threading.Event()
    with (
        listening(StockMoved, lambda _: free.wait(20), group="stock", name="stock.move", atomic=False) as arrived,
        noticing() as notice,
        running(1) as runner,
    ):
        lanes = runner.consumers[0].lines
        wait_until(lambda: lanes, 30, "the worker to have the partition")
        send_many([StockMoved("sku", number) for number in range(COUNT)])
        wait_until(lambda: len(arrived) == 1, 30, "the first to be handled")
        pausing.pause("stock.move")
        notice("held", 1)
        free.set()
        wait_until(lambda: wire.depth(bus.names.partition("stock", 0)) >= COUNT - 2, 30, "the others to go back")
        pausing.resume("stock.move")
        wait_until(lambda: len(arrived) >= COUNT, 30, "all of them")
    assert [message.count for message, _ in arrived] == list(range(COUNT))
