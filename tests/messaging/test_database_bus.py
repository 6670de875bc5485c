"""The bus that needs only the database: claims, leases, clocks and costs."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core import PermanentError
from koan_django.inbox.models import InboxEntry
from koan_django.messaging import send_many
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.base import Batch
from koan_django.messaging.handling.invocation import handle
from koan_django.messaging.models import DeadLetter, MessageEvent, QueuedDelivery
from koan_django.testing import override_koan
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, ThreadPool, listening
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
LEASE = timedelta(seconds=30)


@pytest.fixture
def bus(use_bus: UseBus) -> Any:
    return use_bus("database://")


def claim(bus: Any, limit: int = 10, ttl: timedelta = LEASE) -> Batch:
    """What a consumer would hand to its pool."""
    rows = QueuedDelivery.objects.all().claim("main", "billing", limit, ttl)
    consumer = bus.consumer(ThreadPool(1))
    return Batch("main", "billing", tuple(consumer._delivery(row) for row in rows))


def numbers(batch: Batch) -> list[int]:
    return [each.envelope.decode(OrderPlaced).number for each in batch.deliveries]


def test_the_log_of_a_worker_says_what_was_given_up_and_why(bus: Any, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(message: Any) -> None:
        raise PermanentError("no carrier\nat https://shop:hunter2@carrier/")

    with listening(OrderPlaced, refuse, group="billing"):
        send_many([OrderPlaced(number) for number in range(3)])
        with running():
            wait_until(lambda: DeadLetter.objects.count() == 3, 30, "all to be given up")
    told = [each.getMessage() for each in caplog.records if "given up" in each.getMessage()]
    assert sum(int(each.split()[0]) for each in told) == 3
    assert all("of order.placed for billing given up: PermanentError: no carrier\\nat" in each for each in told)
    assert "hunter2" not in "".join(told)


def test_four_workers_share_the_messages_and_none_is_handled_by_two(use_bus: UseBus) -> None:
    use_bus("database://", LEASE=LEASE)  # who writes to SQLite may wait for longer than the usual 3 s of these tests
    with listening(OrderPlaced, group="billing") as arrived:
        send_many([OrderPlaced(number) for number in range(400)])
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(running())
            wait_until(lambda: not QueuedDelivery.objects.exists(), 120, "all to be handled")
    assert sorted(message.number for message, _ in arrived) == list(range(400))
    assert Counter(MessageEvent.objects.values_list("kind", flat=True)) == {"sent": 400, "handled": 400}


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_sender_whose_clock_is_wrong_neither_delays_nor_hurries_a_message(
    bus: Any, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    right = timezone.now
    with listening(OrderPlaced, group="billing"):
        monkeypatch.setattr(timezone, "now", lambda: right() + timedelta(hours=hours))
        OrderPlaced(1).send()
        OrderPlaced(2).send(delay=timedelta(minutes=10))
        monkeypatch.undo()
    first, second = QueuedDelivery.objects.order_by("id")
    assert abs((first.available_at - right()).total_seconds()) < 30
    assert abs((second.available_at - right()).total_seconds() - 600) < 30
    assert numbers(claim(bus)) == [1]


def test_a_claim_takes_the_urgent_first_and_then_the_oldest(bus: Any) -> None:
    with listening(OrderPlaced, group="billing"):
        for number, priority in enumerate([0, 5, 0, 9, 5]):
            OrderPlaced(number).send(priority=priority)
        OrderPlaced(99).send(delay=timedelta(hours=1), priority=9)
    assert numbers(claim(bus, limit=3)) == [3, 1, 4]
    assert numbers(claim(bus)) == [0, 2]
    assert numbers(claim(bus)) == []


def test_a_claim_reads_no_further_than_it_takes(bus: Any) -> None:
    """With a backlog of any length: the index gives the order."""
    if connection.vendor != "sqlite":
        pytest.skip("the planner of PostgreSQL decides by statistics")
    query = QueuedDelivery.objects.all().waiting("main", "billing").order_by("-priority", "id")[:10]
    plan = query.explain()
    assert "koan_msg_delivery_turn" in plan
    assert "TEMP B-TREE" not in plan


def test_who_was_overtaken_after_the_end_of_a_lease_changes_nothing(bus: Any) -> None:
    done: list[int] = []
    with listening(OrderPlaced, lambda message: done.append(message.number), group="billing"):
        OrderPlaced(1).send()
        late = claim(bus, ttl=timedelta(0))
        taken = claim(bus)
        assert late.deliveries[0].token < taken.deliveries[0].token
        verdict = handle("main", "billing", late.deliveries)[0]
        assert verdict.outcome == "postpone"
        assert not InboxEntry.objects.exists()  # what it did was rolled back
        assert not MessageEvent.objects.filter(kind="handled").exists()
        consumer = bus.consumer(ThreadPool(1))
        consumer.settle([(late.deliveries[0], replace(verdict, outcome=outcome)) for outcome in ("retry", "dead")])
        assert not DeadLetter.objects.exists()
        row = QueuedDelivery.objects.get()
        assert (row.attempt, row.lease_token) == (1, taken.deliveries[0].token)
        assert handle("main", "billing", taken.deliveries)[0].outcome == "handled"
    assert not QueuedDelivery.objects.exists()


def test_a_lease_that_ended_and_that_nobody_took_is_held_on_to(bus: Any) -> None:
    with listening(OrderPlaced, group="billing"):
        OrderPlaced(1).send()
        held = claim(bus, ttl=timedelta(0)).deliveries[0]
        QueuedDelivery.objects.all().extend([(held.ref, held.token)], LEASE)
        assert numbers(claim(bus)) == []
        QueuedDelivery.objects.update(lease_token=F("lease_token") + 1, lease_until=Now())
        QueuedDelivery.objects.all().extend([(held.ref, held.token)], LEASE)
        assert numbers(claim(bus)) == [1]


def test_a_long_handler_keeps_its_message(use_bus: UseBus) -> None:
    """It runs for longer than the lease, and a second worker looks for work all the time."""
    use_bus("database://", LEASE=2)
    with listening(OrderPlaced, lambda message: time.sleep(3.0), group="billing") as arrived, running(), running():
        OrderPlaced(1).send()
        wait_until(lambda: not QueuedDelivery.objects.exists(), 20, "the message to be handled")
    assert len(arrived) == 1


def test_a_cancelled_message_is_gone_unless_somebody_has_it(bus: Any) -> None:
    with listening(OrderPlaced, group="billing"), listening(OrderPlaced, group="stock"):
        first, second = OrderPlaced(1).send(), OrderPlaced(2).send()
        QueuedDelivery.objects.filter(message_id=first.id, group="stock").delete()
        claim(bus, limit=1)
        assert not first.cancel()
        assert second.cancel()
        assert not second.cancel()
    assert QueuedDelivery.objects.get().message_id == first.id
    assert set(MessageEvent.objects.filter(kind="cancelled").values_list("message_id", "group")) == {
        (second.id, "billing"),
        (second.id, "stock"),
    }


# costs


def queries(statements: CaptureQueriesContext) -> list[str]:
    """The statements but for those that begin and end transactions."""
    words = ("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT", "ROLLBACK")
    sent = [each["sql"] for each in statements]
    return [each for each in sent if not each.startswith(words)]


def test_a_send_is_two_queries_and_so_are_fifty(bus: Any) -> None:
    """And one more that notifies, where the database can."""
    told = int(connection.vendor == "postgresql")
    with listening(OrderPlaced, group="billing"):
        with CaptureQueriesContext(connection) as one:
            OrderPlaced(1).send()
        with transaction.atomic(), CaptureQueriesContext(connection) as fifty:
            send_many([OrderPlaced(number) for number in range(50)])
    assert len(queries(one)) == 2 + told  # the delivery and its event
    assert len(queries(fifty)) == 2 + told
    with listening(OrderPlaced, group="billing"), override_koan(MESSAGING={"TRAIL": "off"}):
        with CaptureQueriesContext(connection) as untold:
            OrderPlaced(1).send()
        registry.reset()
    assert len(queries(untold)) == 1 + told


def test_a_handled_message_is_three_queries_and_so_is_a_batch_of_fifty(bus: Any) -> None:
    """The claim of the inbox, the delivery's end, the event; MySQL has to be asked which claims are new."""
    with listening(OrderPlaced, group="billing"):
        OrderPlaced(1).send()
        taken = claim(bus)
        with CaptureQueriesContext(connection) as one:
            assert handle("main", "billing", taken.deliveries)[0].outcome == "handled"
    assert len(queries(one)) == 3
    with listening(OrderPlaced, group="billing", batch=50):
        send_many([OrderPlaced(number) for number in range(50)])
        taken = claim(bus, limit=50)
        with CaptureQueriesContext(connection) as fifty:
            assert {verdict.outcome for verdict in handle("main", "billing", taken.deliveries)} == {"handled"}
    assert len(queries(fifty)) == (3 if connection.features.can_return_rows_from_bulk_insert else 4)


def test_an_idle_consumer_only_reads(bus: Any) -> None:
    with listening(OrderPlaced, group="billing"), listening(OrderPlaced, group="stock"):
        consumer = bus.consumer(ThreadPool(1))
        with CaptureQueriesContext(connection) as statements:
            assert consumer.waiting_groups() == []
            consumer.keep()
    assert len(queries(statements)) == 2  # one for each group
    assert all(statement.startswith("SELECT") for statement in queries(statements))


# messages that end their worker


def lose(bus: Any, times: int) -> None:
    """Have every message taken by a worker of which nobody hears again, ``times`` times."""
    for _ in range(times):
        while claim(bus).deliveries:
            pass
        QueuedDelivery.objects.update(lease_until=Now() - timedelta(seconds=1))


def test_a_message_that_was_lost_with_its_worker_three_times_is_taken_alone(bus: Any) -> None:
    with listening(OrderPlaced, group="billing"):
        send_many([OrderPlaced(number) for number in range(3)])
        lose(bus, 2)
        send_many([OrderPlaced(number) for number in range(3, 6)])
        batch = claim(bus)
        assert numbers(batch) == [0, 1, 2, 3, 4, 5]  # a worker is killed now and then
        bus.consumer(ThreadPool(1)).give_back(batch.deliveries)
        assert set(QueuedDelivery.objects.values_list("deliveries", flat=True)) == {0}  # given back is not lost

        QueuedDelivery.objects.filter(pk__in=[each.ref for each in batch.deliveries[:2]]).update(deliveries=3)
        assert [numbers(claim(bus)) for _ in range(3)] == [[0], [1], [2, 3, 4, 5]]


class SlowPool:
    """Keeps what it is given until the test lets it be handled."""

    size = 4

    def __init__(self) -> None:
        self.waiting: list[tuple[Batch, Any]] = []

    def submit(self, batch: Batch, done: Any) -> bool:
        self.waiting.append((batch, done))
        return True

    def handle_all(self) -> None:
        while self.waiting:
            batch, done = self.waiting.pop(0)
            done(batch, handle(batch.bus, batch.group, batch.deliveries))


def test_nothing_is_fetched_beside_a_message_that_may_end_the_worker(bus: Any) -> None:
    """It would be lost with it, and be suspected as well."""
    with listening(OrderPlaced, group="billing", batch=10) as arrived:
        send_many([OrderPlaced(number) for number in range(5)])
        QueuedDelivery.objects.filter(pk=QueuedDelivery.objects.order_by("pk")[0].pk).update(deliveries=3)
        pool = SlowPool()
        consumer = bus.consumer(pool)
        for expected in ([[0]], [[1, 2, 3, 4]]):
            for _ in range(3):
                consumer._fill()
            assert [numbers(batch) for batch, _ in pool.waiting] == expected
            pool.handle_all()
            consumer._settle_done()
    assert [message.number for messages, _ in arrived for message in messages] == [0, 1, 2, 3, 4]


def test_a_message_that_no_worker_has_survived_is_a_dead_letter_and_its_neighbours_are_not(use_bus: UseBus) -> None:
    bus = use_bus("database://", DELIVERY_LIMIT=5)
    with listening(OrderPlaced, group="billing", batch=10, name="shop.bill") as arrived:
        send_many([OrderPlaced(number) for number in range(5)])
        deadly = QueuedDelivery.objects.order_by("pk")[2].pk
        for _ in range(5):  # a worker after the other: it handles what it can until it takes the deadly one
            pool = SlowPool()
            consumer = bus.consumer(pool)
            while not any(each.ref == deadly for batch, _ in pool.waiting for each in batch.deliveries):
                pool.handle_all()
                consumer._settle_done()
                consumer._fill()
            QueuedDelivery.objects.update(lease_until=Now() - timedelta(seconds=1))
        with running():
            wait_until(lambda: not QueuedDelivery.objects.exists(), 30, "all to be settled")
    assert sorted(message.number for messages, _ in arrived for message in messages) == [0, 1, 3, 4]
    dead = DeadLetter.objects.get()
    assert (dead.reason, dead.handler, dead.envelope().decode(OrderPlaced).number) == ("exhausted", "shop.bill", 2)
    assert dead.error_type.endswith("WorkerLostError")
    assert "5 deliveries in a row ended without one" in dead.error
    assert MessageEvent.objects.filter(kind="dead", message_id=dead.message_id).count() == 1
