"""Messages that wait: on the broker's ladder, in the database, and between attempts."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.exceptions import RegistrationError
from koan_django.messaging import RetryPolicy, send_many
from koan_django.messaging.buses.amqp.topology import declare, delay_topology, steps_of
from koan_django.messaging.dead import deadletters
from koan_django.messaging.handlers import handler
from koan_django.messaging.models import DeadLetter, OutboxMessage
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.wire import Wire
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """Notes when each message was handled."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}

    def __call__(self, message: Any) -> None:
        self.at[message.number] = time.monotonic()


# on the broker


@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=366)))
def test_the_steps_of_a_delay_add_up_to_it_and_to_no_second_more(delay: timedelta) -> None:
    steps = steps_of(delay)
    assert steps == sorted(set(steps), reverse=True)
    waited = timedelta(seconds=sum(2**step for step in steps))
    assert delay <= waited < delay + timedelta(seconds=1) or waited == timedelta(seconds=1)


def test_messages_wait_on_the_broker_and_no_shorter_than_they_were_told(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    use_bus(vhost.url)
    clock = Clock()
    delays = {1: 1.0, 2: 2.0, 3: 3.0, 5: 5.0, 0: 0.3}
    with (
        listening(OrderPlaced, clock, group="billing") as arrived,
        listening("order.*", group="audit") as seen,
        running(),
    ):
        began = time.monotonic()
        receipts = [OrderPlaced(n).send(delay=timedelta(seconds=delay)) for n, delay in delays.items()]
        assert not OutboxMessage.objects.exists()
        wait_until(lambda: len(arrived) == len(seen) == 5, 20, "the delayed messages")
    assert {receipt.state for receipt in receipts} == {"published"}
    early = {number: clock.at[number] - began for number, delay in delays.items() if clock.at[number] - began < delay}
    assert not early
    headers = [context.headers for _, context in arrived]
    assert not [name for each in headers for name in each if name.startswith(("x-", "koan-delay-"))]


def test_a_time_is_as_good_as_a_delay(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing") as arrived, running():
        later = OrderPlaced(1).send(eta=timezone.now() + timedelta(seconds=2))
        past = OrderPlaced(2).send(eta=timezone.now() - timedelta(days=1))
        wait_until(lambda: len(arrived) == 2, 20, "both")
    assert (later.state, past.state) == ("published", "published")
    assert [message.number for message, _ in arrived] == [2, 1]
    assert not later.cancel()  # it had left the database


def test_the_first_to_delay_a_message_declares_where_it_waits(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    receipts = send_many([OrderPlaced(1), OrderPlaced(2)], delay=timedelta(seconds=100))
    assert [receipt.state for receipt in receipts] == ["published"] * 2
    assert wire.depth(bus.names.delay(6)) == 2  # 64 of 100 = 64 + 32 + 4
    assert wire.depth(bus.names.delay(7)) == -1


def test_a_ladder_that_the_broker_refuses_leaves_messages_in_the_database(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    wire.queue(bus.names.delay(0))  # not what is declared
    receipt = OrderPlaced(1).send(delay=timedelta(seconds=60))
    row = OutboxMessage.objects.get()
    assert (receipt.state, row.message_id) == ("accepted", receipt.id)
    assert row.available_at > timezone.now() + timedelta(seconds=30)
    assert "PRECONDITION_FAILED" in row.last_error
    assert receipt.cancel()


def test_a_delay_outlives_a_broker_that_is_away(use_bus: UseBus, through: str, proxy: Proxy) -> None:
    use_bus(through)
    proxy.shut()
    with listening(OrderPlaced, group="billing"):
        receipt = OrderPlaced(1).send(delay=timedelta(seconds=60))
    row = OutboxMessage.objects.get()
    assert receipt.state == "accepted"
    assert row.available_at > timezone.now() + timedelta(seconds=30)


def test_what_nobody_receives_any_more_becomes_a_dead_letter_and_blocks_nothing(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    declare(wire.channel, bus.topology())
    orphan = OrderPlaced(1, note="late").send(delay=timedelta(seconds=1))
    with listening(StockMoved, group="stock") as arrived, running():
        StockMoved("a", 1).send(delay=timedelta(seconds=1))
        wait_until(lambda: DeadLetter.objects.exists() and arrived, 20, "both")
    dead = DeadLetter.objects.get()
    assert (dead.message_id, dead.reason, dead.group) == (orphan.id, "unroutable", "")
    with listening(OrderPlaced, group="billing") as again, running():
        deadletters.replay(dead)
        wait_until(lambda: again, 20, "the replayed message")
    assert again[0][0] == OrderPlaced(1, note="late")


# in the database


@pytest.mark.parametrize(
    ("delay", "horizon"),
    [(timedelta(seconds=121), timedelta(minutes=2)), (timedelta(days=365), timedelta(minutes=2)), (timedelta(1), 0)],
    ids=["longer than the ladder", "a year", "no ladder"],
)
def test_what_waits_for_long_waits_in_the_database_and_can_be_cancelled(
    use_bus: UseBus, vhost: Vhost, delay: timedelta, horizon: Any
) -> None:
    use_bus(vhost.url, DELAY_IN_BROKER=horizon)
    receipt = OrderPlaced(1).send(delay=delay)
    assert receipt.state == "accepted"
    assert OutboxMessage.objects.get().available_at > timezone.now() + delay - timedelta(minutes=1)
    assert receipt.cancel()
    assert not OutboxMessage.objects.exists()


def test_a_delayed_message_of_a_transaction_or_to_one_group_waits_in_the_database(
    use_bus: UseBus, vhost: Vhost
) -> None:
    bus = use_bus(vhost.url)
    with transaction.atomic():
        OrderPlaced(1).send(delay=timedelta(seconds=5))
    OrderPlaced(2).send_to("billing", delay=timedelta(seconds=5))
    assert OutboxMessage.objects.count() == 2
    assert bus._publishers == {}


# between attempts


def test_a_handler_waits_by_its_own_policy(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url, RETRY={"FIRST_DELAY": 30, "MAX_DELAY": 30, "MAX_ATTEMPTS": 2, "JITTER": 0})
    quick = RetryPolicy(max_attempts=3, first_delay=timedelta(seconds=0.3), factor=1, jitter=0)
    began = time.monotonic()
    with listening(OrderPlaced, _fail, group="billing", retry=quick) as arrived, running():
        OrderPlaced(1).send()
        wait_until(DeadLetter.objects.exists, 20, "the dead letter")
    assert [context.attempt for _, context in arrived] == [1, 2, 3]
    assert time.monotonic() - began >= 0.6
    assert arrived[0][1].max_attempts == 3


def test_a_retry_is_one_copy_in_one_bucket_for_the_group_that_failed(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url, RETRY={"FIRST_DELAY": 40, "FACTOR": 2, "MAX_DELAY": 160, "MAX_ATTEMPTS": 5, "JITTER": 0})
    with listening(OrderPlaced, _fail, group="billing"), listening(OrderPlaced, group="audit") as audited, running():
        OrderPlaced(1).send()
        waits = bus.options.retry.steps()
        wait_until(lambda: sum(wire.depth(bus.names.retry(wait)) for wait in waits) > 0, 20, "the retry to wait")
        wait_until(lambda: audited, 20, "the other group")
        assert [wire.depth(bus.names.retry(wait)) for wait in waits] == [1, 0, 0]
        assert [wire.depth(bus.names.group(group)) for group in ("billing", "audit")] == [0, 0]
    [waiting] = wire.take(bus.names.retry(waits[0]))
    assert waiting.delivery_info["routing_key"] == bus.names.group("billing")
    assert len(audited) == 1


@pytest.mark.parametrize("url", ["database://", "amqp"])
def test_immediate_attempts_come_before_the_delayed_ones(use_bus: UseBus, request: Any, url: str) -> None:
    use_bus(request.getfixturevalue("vhost").url if url == "amqp" else url)
    policy = RetryPolicy(max_attempts=4, immediate=2, first_delay=timedelta(seconds=2), jitter=0)
    at: list[float] = []
    with listening(OrderPlaced, _note_and_fail(at), group="billing", retry=policy), running():
        OrderPlaced(1).send()
        wait_until(DeadLetter.objects.exists, 30, "the dead letter")
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert len(at) == 4
    assert waits[2] >= 1.9
    assert max(waits[:2]) < waits[2]


def test_a_policy_and_a_number_of_attempts_are_one_too_many() -> None:
    with pytest.raises(RegistrationError, match="leave out max_attempts"):
        handler(OrderPlaced, max_attempts=3, retry=RetryPolicy())(_fail)  # type: ignore[type-var]
    with pytest.raises(RegistrationError, match="is not a RetryPolicy"):
        handler(OrderPlaced, retry=5)(_fail)  # type: ignore[call-overload]


def test_the_longest_ladder_reaches_over_a_year() -> None:
    from koan_django.messaging.buses.amqp.names import Names

    topology = delay_topology(Names("koan"), timedelta(days=366))
    assert len([queue for queue in topology.queues if ".delay." in queue.name]) == 25
    assert steps_of(timedelta(days=366))[0] == 24


def _fail(message: OrderPlaced) -> None:
    raise ConnectionError("not now")


def _note_and_fail(at: list[float]) -> Any:
    def fail(message: OrderPlaced) -> None:
        at.append(time.monotonic())
        raise ConnectionError("not now")

    return fail
