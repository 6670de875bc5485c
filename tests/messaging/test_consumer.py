"""Feeding a pool: sizes of batches, children that die, pools that close, a database that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from koan_django.core import facts
from koan_django.messaging import send_many
from koan_django.messaging.buses.base import Batch
from koan_django.messaging.buses.database import DatabaseConsumer
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.handling import limits, middleware
from koan_django.messaging.handling.invocation import handle
from koan_django.messaging.handling.limits import Limits
from koan_django.messaging.handling.pacing import BATCH_BYTES, Pace, parts
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import DeadLetter, MessageEvent, QueuedDelivery
from koan_django.messaging.worker.runner import BusRunner
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, ThreadPool, listening
from tests.services.waiting import wait_until

database = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class FatalPool(ThreadPool):
    """A pool whose child dies of certain messages: its batch comes back without verdicts."""

    def __init__(self, fatal: set[int]) -> None:
        super().__init__(1)
        self.fatal = fatal
        self.batches: list[list[int]] = []

    def _run(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> None:
        inside = [each.envelope.decode(OrderPlaced).number for each in batch.deliveries]
        self.batches.append(inside)
        before = [each for each in batch.deliveries if each.envelope.decode(OrderPlaced).number not in self.fatal]
        if len(before) == len(batch.deliveries):
            super()._run(batch, done)
        else:
            handle(batch.bus, batch.group, before[: len(before) // 2])  # it had done a part of its work
            done(batch, None)


@contextmanager
def consuming(pool: ThreadPool) -> Iterator[BusRunner]:
    runner = BusRunner(pool)
    runner.start()
    try:
        yield runner
    finally:
        pool.closed = True
        runner.stop()
        pool.shutdown()


@pytest.mark.parametrize(
    ("error", "advised"),
    [(OperationalError("no such table: koan_messaging_queueddelivery"), True), (OperationalError("timeout"), False)],
)
def test_the_log_says_what_a_person_has_to_do_and_nothing_where_it_mends_itself(
    use_bus: UseBus, caplog: pytest.LogCaptureFixture, error: OperationalError, advised: bool
) -> None:
    consumer = use_bus("database://").consumer(ThreadPool())
    with caplog.at_level("WARNING"):
        consumer._note(error)
    assert f"The bus main is not consumed: OperationalError: {error}; trying again" in caplog.text
    assert ("Run manage.py migrate" in caplog.text) is advised


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_a_message_that_kills_its_child_is_tried_again_alone_and_harms_no_neighbour(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing", batch=10) as arrived:
        send_many([OrderPlaced(number) for number in range(10)])
        pool = FatalPool({4})
        with consuming(pool):
            wait_until(DeadLetter.objects.exists, 20, "the dead letter")
            wait_until(lambda: not QueuedDelivery.objects.exists(), 20, "the others to be handled")
    dead = DeadLetter.objects.get()
    assert (dead.reason, dead.attempt) == ("exhausted", 3)
    assert dead.error_type.endswith("WorkerLostError")
    assert pool.batches[0] == list(range(10))
    assert pool.batches[1:11] == [[number] for number in range(10)]  # one by one: nobody knows who it was
    assert pool.batches.count([4]) == 3
    handled = [message.number for messages, _ in arrived for message in messages]
    assert sorted(handled) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert MessageEvent.objects.filter(kind="retried").count() == 2  # the neighbours' attempts do not count


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_a_pool_that_closes_gets_no_more_and_what_it_did_not_take_goes_back(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing"):
        pool = ThreadPool(1)
        pool.closed = True
        with consuming(pool) as runner:
            OrderPlaced(1).send()
            wait_until(lambda: not runner.is_busy, what="the consumer to end")
        row = QueuedDelivery.objects.get()
        assert (row.lease_until, row.attempt, row.lease_token) == (None, 1, 1)
        with running():
            wait_until(lambda: not QueuedDelivery.objects.exists(), what="the next worker to handle it")


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_what_could_not_be_settled_is_settled_when_the_database_is_back(
    use_bus: UseBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_bus("database://")
    settle, failures = DatabaseConsumer.settle, [OperationalError("the server closed the connection")]

    def failing(self: DatabaseConsumer, settled: Any) -> None:
        if failures:
            raise failures.pop()
        settle(self, settled)

    monkeypatch.setattr(DatabaseConsumer, "settle", failing)

    def fail(message: OrderPlaced) -> None:
        raise ConnectionError("always")

    with listening(OrderPlaced, fail, group="billing", max_attempts=1) as arrived, running():
        OrderPlaced(1).send()
        wait_until(DeadLetter.objects.exists, 20, "the dead letter")
    assert len(arrived) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_a_drain_that_begins_while_something_is_fetched_waits_for_it(
    use_bus: UseBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was claimed and not yet handed over must not be forgotten."""
    use_bus("database://")
    fetching, go_on = threading.Event(), threading.Event()
    fetch = DatabaseConsumer.fetch

    def slow(self: DatabaseConsumer, group: str, limit: int) -> list[Delivery]:
        found = fetch(self, group, limit)
        fetching.set()
        assert go_on.wait(10)
        return found

    monkeypatch.setattr(DatabaseConsumer, "fetch", slow)
    with listening(OrderPlaced, group="billing") as arrived:
        OrderPlaced(1).send()
        pool = ThreadPool(1)
        with consuming(pool) as runner:
            assert fetching.wait(10)
            runner.drain()
            assert runner.is_busy
            go_on.set()
            wait_until(lambda: not runner.is_busy, what="the drain to end")
            assert len(arrived) == 1
            assert not QueuedDelivery.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_a_database_that_is_away_before_a_handler_is_called_costs_no_attempt(use_bus: UseBus) -> None:
    use_bus("database://")
    failures = [OperationalError("the server closed the connection")] * 7  # more than there are attempts

    @contextmanager
    def away(call: middleware.Call) -> Iterator[middleware.Call]:
        if failures:
            raise failures.pop()
        yield call

    middleware.register("away", away, order=1)
    try:
        with listening(OrderPlaced, group="billing") as arrived, running():
            OrderPlaced(1).send()
            for _ in range(7):
                wait_until(lambda: QueuedDelivery.objects.filter(last_error__contains="closed").exists(), what="it")
                QueuedDelivery.objects.update(available_at="2000-01-01T00:00Z", last_error="")
            wait_until(lambda: not QueuedDelivery.objects.exists(), 20, "the message to be handled")
    finally:
        middleware._chain.remove("away")
    assert [context.attempt for _, context in arrived] == [1]
    assert not DeadLetter.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_health_says_what_a_consumer_does(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, lambda message: threading.Event().wait(0.5), group="billing"):
        consumer = BusRunner(ThreadPool(1)).consumers[0]
        assert consumer.finding().status == "unhealthy"
        with running() as runner:
            consumer = runner.consumers[0]
            assert (consumer.finding().status, consumer.finding().message) == ("healthy", "consuming")
            assert consumer.finding().data == {"groups": ["billing"], "in_flight": 0, "settled": 0}
            OrderPlaced(1).send()
            wait_until(lambda: consumer.finding().data["in_flight"] == 1, what="the message to be in flight")
            runner.drain()
            assert (consumer.finding().status, consumer.finding().message) == ("degraded", "draining")
    assert consumer.finding().status == "unhealthy"


@pytest.mark.django_db(transaction=True)
def test_a_consuming_thread_that_hangs_is_noticed_by_who_asks_for_its_health(
    use_bus: UseBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koan_django.messaging.handling.findings.STUCK_SECONDS", 0.3)
    use_bus("database://")
    hangs, go_on = threading.Event(), threading.Event()
    waiting = DatabaseConsumer.waiting_groups

    def hanging(self: DatabaseConsumer) -> Any:
        if hangs.is_set():
            go_on.wait(30)
        return waiting(self)

    monkeypatch.setattr(DatabaseConsumer, "waiting_groups", hanging)
    with listening(OrderPlaced, group="billing"), running() as runner:
        consumer = runner.consumers[0]
        wait_until(lambda: consumer.finding().status == "healthy", 20, "the consumer to consume")
        hangs.set()
        wait_until(lambda: consumer.finding().status == "unhealthy", 20, "health to say so")
        assert "its thread has not moved for" in consumer.finding().message
        assert "tests.messaging.test_consumer" in consumer.finding().data["in"]
        assert consumer.finding().critical
        hangs.clear()
        go_on.set()
        wait_until(lambda: consumer.finding().status == "healthy", 20, "health to recover")


@pytest.mark.django_db(transaction=True)
def test_a_handler_on_a_thread_that_is_over_its_time_is_named_in_health_and_log(
    use_bus: UseBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can end it, so nobody claims to; it counts as handled when it returns."""
    use_bus("database://")
    go_on = threading.Event()
    options = {"group": "billing", "name": "shop.slow", "soft_time_limit": 0.1, "time_limit": 60}
    with (
        listening(OrderPlaced, lambda message: go_on.wait(30), atomic=False, **options),
        running() as runner,
    ):
        receipt = OrderPlaced(1).send()
        expected = f"shop.slow is over its time limit of 0.1 s with the message {receipt.id}"
        consumer = runner.consumers[0]
        wait_until(lambda: consumer.finding().status == "degraded", 20, "health to say so")
        assert consumer.finding().message == expected
        wait_until(lambda: caplog.text.count(expected), 20, "the log")
        OrderPlaced(2).send()
        go_on.set()
        wait_until(lambda: MessageEvent.objects.filter(kind="handled").count() == 2, 20, "both to be handled")
        wait_until(lambda: consumer.finding().status == "healthy", 20, "health to recover")
    assert caplog.text.count(expected) == 1


@pytest.mark.parametrize(
    ("enforced", "selection", "logged"), [(True, "enforced", False), (False, "watched only", True)]
)
def test_a_worker_says_whether_its_pool_enforces_time_limits(
    enforced: bool, selection: str, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        limits.announce(enforced=enforced)  # without limits there is nothing to say
        assert "messaging.limits" not in {fact.subject for fact in facts.own()}
        with listening(OrderPlaced, group="billing", name="shop.limited", time_limit=30):
            limits.announce(enforced=enforced)
        fact = next(fact for fact in facts.own() if fact.subject == "messaging.limits")
    finally:
        facts.forget("messaging.limits")
    assert fact.selection == selection
    assert "shop.limited (30 s)" in fact.reason
    assert ("Time limits are not enforced" in caplog.text) == logged


# sizes of batches


def test_messages_with_other_time_limits_go_in_other_batches() -> None:
    known = {"a": Limits(1, 2), "b": Limits(1, 2), "c": Limits()}
    deliveries = [replace(delivery(1), envelope=replace(delivery(1).envelope, alias=alias)) for alias in "abca"]
    found = parts(deliveries, known.__getitem__)
    aliases = [(limits, [each.envelope.alias for each in part]) for limits, part in found]
    assert aliases == [(Limits(1, 2), ["a", "b"]), (Limits(), ["c"]), (Limits(1, 2), ["a"])]


def delivery(size: int) -> Delivery:
    return Delivery(Envelope("x", "a", 1, b"x" * size, {}, "a.p"), "main", "billing")


@given(st.lists(st.sampled_from([0, 1, 1000, BATCH_BYTES // 3, BATCH_BYTES, BATCH_BYTES + 1]), max_size=12))
def test_parts_keep_order_and_hold_no_more_than_fits_through_the_pipe(sizes: list[int]) -> None:
    deliveries = [delivery(size) for size in sizes]
    found = [part for _limits, part in parts(deliveries)]
    assert [each for part in found for each in part] == deliveries
    assert all(part for part in found)
    assert all(len(part) == 1 or sum(len(each.envelope.body) for each in part) <= BATCH_BYTES for part in found)


def test_a_batch_holds_what_takes_twenty_milliseconds() -> None:
    pace = Pace({"quick": 1, "slow": 1, "batched": 30}, most=50)
    assert pace.limit("quick") == 1  # until one was timed
    assert pace.limit("batched") == 30
    pace.note("quick", 0.001)
    pace.note("slow", 5.0)
    pace.note("batched", 5.0)
    assert (pace.limit("quick"), pace.limit("slow"), pace.limit("batched")) == (20, 1, 30)
    for _ in range(30):
        pace.note("quick", 0.0)
    assert pace.limit("quick") == 50
