"""A process that starts while the broker is down."""

from __future__ import annotations

import time
from typing import Any

import pytest

from koan_django.messaging.models import DeadLetter, OutboxMessage
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import StockMoved, listening
from tests.services.proxy import Proxy
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]
KEYS = 10
#: Between messages that are sent while the outbox is emptied: a sender without a break would fill it meanwhile.
BREAK_SECONDS = 0.05


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again soon; the publisher sooner than the consumer, which declares the queue."""
    monkeypatch.setattr("koan_django.messaging.buses.amqp.publisher.MAX_BACKOFF_SECONDS", 0.1)
    monkeypatch.setattr("koan_django.messaging.handling.consumer.MAX_BACKOFF_SECONDS", 0.5)


@pytest.mark.parametrize("failover", [False, True], ids=["one", "failover"])
def test_messages_that_were_sent_while_it_was_down_arrive_in_order_though_no_queue_was_declared_yet(
    use_bus: UseBus, proxy: Proxy, through: str, failover: bool
) -> None:
    options: dict[str, Any] = {"FAILOVER": ["amqp://guest:guest@127.0.0.1:1/"]} if failover else {}
    use_bus(through, **options)
    proxy.shut()
    sent = 0

    def send(count: int) -> set[str]:
        nonlocal sent
        states = {StockMoved(f"sku-{number % KEYS}", number).send().state for number in range(sent, sent + count)}
        sent += count
        return states

    batches: list[list[StockMoved]] = []
    with (
        listening(StockMoved, batches.append, group="stock", batch=50),
        running(1, consuming=False) as runner,
    ):
        assert send(300) == {"accepted"}
        wait_until(lambda: "cannot be reached" in runner.relays[0].error, 30, "the relay to say what is wrong")
        wait_until(lambda: "cannot be reached" in runner.consumers[0].error, 30, "the consumer to say what is wrong")
        proxy.open()
        while send(1) != {"published"}:  # what is sent while the outbox is emptied does not overtake it
            time.sleep(BREAK_SECONDS)
            assert sent < 2_000
        wait_until(lambda: sum(map(len, batches)) >= sent, 30, "every message")
        assert runner.relays[0].finding().status == "healthy"
    numbers = [message.count for batch in batches for message in batch]
    for key in range(KEYS):
        mine = [number for number in numbers if number % KEYS == key]
        assert mine == sorted(mine)
    assert sorted(numbers) == list(range(sent))
    assert not OutboxMessage.objects.exists()
    assert not DeadLetter.objects.exists()
