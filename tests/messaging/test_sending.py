"""Sending: arguments, order, buses, headers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone

from koan_django.core import correlation, tenant
from koan_django.core.context import causation
from koan_django.core.exceptions import RegistrationError
from koan_django.messaging import IdempotencyKey, Message, UnroutableError, send_many
from koan_django.messaging.models import MessageEvent, QueuedDelivery
from koan_django.messaging.outgoing import sending
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPaid, OrderPlaced, StockMoved, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Urgent(Message):
    number: int

    class Meta:
        alias = "tests.urgent"
        bus = "other"


class Labelled(Message):
    label: IdempotencyKey[str]

    class Meta:
        alias = "tests.labelled"


TWO_BUSES = {"BUSES": {"main": {}, "other": {}}}
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"delay": timedelta(1), "eta": timezone.now()}, TypeError, "give delay= or eta=, not both"),
    ({"delay": 5}, TypeError, "delay=5 is not a timedelta"),
    ({"delay": timedelta(seconds=-1)}, ValueError, "must not be negative"),
    ({"eta": datetime(2030, 1, 1)}, TypeError, "needs a datetime with a time zone"),
    ({"eta": "2030-01-01"}, TypeError, "needs a datetime with a time zone"),
    ({"priority": 10}, ValueError, "priority=10 is not between 0 and 9"),
    ({"priority": -1}, ValueError, "is not between 0 and 9"),
    ({"bus": "mian"}, RegistrationError, "there is no bus 'mian'; did you mean 'main'"),
]


@pytest.mark.parametrize(("arguments", "error", "expected"), WRONG)
def test_wrong_arguments_are_named_and_nothing_is_sent(
    arguments: dict[str, Any], error: type[Exception], expected: str
) -> None:
    with listening(OrderPlaced, group="billing"):
        with pytest.raises(error, match=expected):
            OrderPlaced(1).send(**arguments)
        with pytest.raises(error, match=expected):
            async_to_sync(OrderPlaced(1).asend)(**arguments)
        with pytest.raises(error, match=expected):
            send_many([OrderPlaced(1)], **arguments)
    assert not QueuedDelivery.objects.exists()


def test_a_group_that_is_not_there_is_named() -> None:
    with listening(OrderPlaced, group="billing"), pytest.raises(UnroutableError, match="'biling' has no handlers"):
        OrderPlaced(1).send_to("biling")


def test_of_many_messages_none_is_sent_when_one_cannot_be() -> None:
    wrong: Any = [OrderPlaced(1), OrderPlaced("two"), Urgent(3)]  # type: ignore[arg-type]
    with (
        override_koan(MESSAGING=TWO_BUSES),
        listening(OrderPlaced, group="g"),
        listening(Urgent, group="g"),
        pytest.raises(TypeError, match=r"OrderPlaced cannot be sent: .*number"),
    ):
        send_many(wrong)
    with listening(OrderPlaced, group="g"), pytest.raises(UnroutableError):
        send_many([OrderPlaced(1), OrderPaid(1)])
    assert not QueuedDelivery.objects.exists()


def test_receipts_come_in_the_order_of_the_messages_whatever_their_buses() -> None:
    with (
        override_koan(MESSAGING=TWO_BUSES),
        listening(OrderPlaced, group="g"),
        listening(Urgent, group="g"),
        listening(OrderPlaced, group="g", bus="other"),
    ):
        messages = [OrderPlaced(0), Urgent(1), OrderPlaced(2), Urgent(3)]
        receipts = send_many(messages)
        assert [receipt.bus for receipt in receipts] == ["main", "other", "main", "other"]
        for receipt, message in zip(receipts, messages, strict=True):
            row = QueuedDelivery.objects.get(message_id=receipt.id)
            assert (row.bus, row.envelope().decode(type(message))) == (receipt.bus, message)
        assert OrderPlaced(5).send(bus="other").bus == "other"
        assert send_many([]) == []


def test_a_generator_of_messages_will_do() -> None:
    with listening(OrderPlaced, group="g"):
        assert len(send_many(OrderPlaced(number) for number in range(3))) == 3
    assert QueuedDelivery.objects.count() == 3


def test_an_awaited_send_takes_part_in_the_transaction_of_its_thread() -> None:
    async def both() -> None:
        await OrderPlaced(1).asend()
        receipt = await OrderPlaced(2).asend_to("g", delay=timedelta(hours=1))
        assert await receipt.acancel()

    with listening(OrderPlaced, group="g"):
        async_to_sync(both)()
    assert QueuedDelivery.objects.count() == 1


def test_a_rolled_back_send_leaves_nothing_not_even_an_event() -> None:
    with listening(OrderPlaced, group="g"), pytest.raises(ZeroDivisionError), transaction.atomic():
        OrderPlaced(1).send()
        raise ZeroDivisionError
    assert not QueuedDelivery.objects.exists()
    assert not MessageEvent.objects.exists()


def test_headers_carry_the_context_and_the_keys() -> None:
    with listening("#", group="g"), correlation.use("story"), causation.use("cause"), tenant.use("acme"):
        StockMoved("sku-1", 2).send()
        OrderPaid(5).send()
    moved, paid = (row.envelope() for row in QueuedDelivery.objects.order_by("id"))
    assert (moved.correlation_id, moved.causation_id, moved.tenant) == ("story", "cause", "acme")
    assert moved.partition_key == "sku-1"
    assert moved.routing_key.startswith("stock.moved.p")
    assert moved.routing_key != "stock.moved.p"
    assert moved.idempotency_key == moved.id
    assert (paid.idempotency_key, paid.routing_key, paid.partition_key) == ("5", "order.paid.p", None)
    assert moved.sent_at is not None


def test_times_have_a_zone_where_django_has_none(settings: Any) -> None:
    settings.USE_TZ = False
    message = OrderPlaced(1)
    at_once = sending.wrap(message, "main")
    later = sending._timed(at_once, timedelta(hours=1))
    assert at_once.sent_at is not None
    assert later.due_at is not None
    assert timedelta(minutes=59) < later.due_at - at_once.sent_at < timedelta(minutes=61)


def test_a_message_without_a_story_begins_one() -> None:
    with listening(OrderPlaced, group="g"):
        receipt = OrderPlaced(1).send()
    assert QueuedDelivery.objects.get().envelope().correlation_id == receipt.id


def test_what_is_sent_together_has_one_time_and_context_and_a_story_each_where_there_is_none() -> None:
    with listening("#", group="g"):
        with tenant.use("acme"):
            alone = send_many([OrderPlaced(1), StockMoved("sku-1", 2), OrderPaid(5)])
        with correlation.use("story"):
            told = send_many([OrderPlaced(2), OrderPlaced(3)])
    found = {row.message_id: row.envelope() for row in QueuedDelivery.objects.all()}
    first, second = ([found[receipt.id] for receipt in receipts] for receipts in (alone, told))
    assert [each.correlation_id for each in first] == [receipt.id for receipt in alone]
    assert [each.correlation_id for each in second] == ["story", "story"]
    assert [each.tenant for each in first + second] == ["acme"] * 3 + [""] * 2
    assert [each.partition_key for each in first] == [None, "sku-1", None]
    assert [each.idempotency_key for each in first] == [first[0].id, first[1].id, "5"]
    assert [len({each.sent_at for each in together}) for together in (first, second)] == [1, 1]
    assert first[0].sent_at is not None
    assert second[0].sent_at is not None
    assert first[0].sent_at < second[0].sent_at


@pytest.mark.parametrize("label", ["x" * 40_000, "a\x00b"])
def test_a_key_that_cannot_travel_is_the_senders_error(label: str) -> None:
    with listening(Labelled, group="g"), pytest.raises(ValueError, match="of this Labelled cannot travel"):
        Labelled(label).send()
    assert not QueuedDelivery.objects.exists()
