"""What every bus promises."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from msgspec.structs import replace

from koan_django.core import PermanentError, correlation, tenant
from koan_django.inbox.models import InboxEntry
from koan_django.messaging import Envelope, UnroutableError, send_many
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.dead import deadletters
from koan_django.messaging.exceptions import OversizeMessageError
from koan_django.messaging.models import DeadLetter, MessageEvent
from koan_django.messaging.outgoing import sending
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPaid, OrderPlaced, StockMoved, listening

from .conftest import Rig

pytestmark = pytest.mark.database


def numbers(arrived: list[Any]) -> list[int]:
    return [message.number for message, _ in arrived]


def test_a_message_reaches_its_handler_with_its_context(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing", name="billing.open") as arrived, rig.running():
        receipt = OrderPlaced(7, note="Grüße").send()
        rig.until(lambda: arrived, "the message to arrive")
    message, context = arrived[0]
    assert message == OrderPlaced(7, note="Grüße")
    assert (context.id, context.group, context.handler, context.attempt) == (receipt.id, "billing", "billing.open", 1)
    assert context.correlation_id == receipt.id
    assert context.causation_id == ""
    assert context.sent_at is not None


def test_what_ends_when_its_consumer_has_gone_writes_into_no_file_of_the_users(rig: Rig, tmp_path: Path) -> None:
    """A batch of a child that outlives its consumer wakes it all the same; by then its numbers are other files'."""
    with listening(OrderPlaced, group="billing"), rig.running() as runner:
        consumers = list(runner.consumers)
    with ExitStack() as stack:
        files = [stack.enter_context((tmp_path / f"{number}").open("wb")) for number in range(100)]
        for consumer in consumers:
            consumer.wake()
        assert consumers
        assert not any(os.fstat(file.fileno()).st_size for file in files)


def test_each_group_gets_a_copy_and_within_a_group_one_handler_does(rig: Rig) -> None:
    with (
        listening(OrderPlaced, group="billing") as billing,
        listening(OrderPlaced, group="stock") as stock,
        rig.running() as first,
        rig.running() as second,
    ):
        send_many([OrderPlaced(number) for number in range(20)])
        rig.until(lambda: len(billing) + len(stock) == 40, "all copies to arrive")
    assert sorted(numbers(billing)) == sorted(numbers(stock)) == list(range(20))
    assert first is not second


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("order.*", {"order.placed", "order.paid"}), ("#", {"order.placed", "order.paid", "stock.moved"})],
)
def test_a_pattern_receives_envelopes_of_every_alias_it_matches(rig: Rig, pattern: str, expected: set[str]) -> None:
    with listening(StockMoved, group="stock"), listening(pattern, group="audit") as arrived, rig.running():
        OrderPlaced(1).send()
        OrderPaid(1).send()
        StockMoved("a", 1).send()
        rig.until(lambda: len(arrived) == len(expected), "the matching messages")
    envelopes = [envelope for envelope, _ in arrived]
    assert all(isinstance(envelope, Envelope) for envelope in envelopes)
    assert {envelope.alias for envelope in envelopes} == expected


def test_send_to_reaches_one_group_only(rig: Rig) -> None:
    with (
        listening(OrderPlaced, group="billing") as billing,
        listening(OrderPlaced, group="stock") as stock,
        rig.running(),
    ):
        OrderPlaced(1).send_to("billing")
        OrderPlaced(2).send()
        rig.until(lambda: len(billing) == 2 and stock, "the messages")
    assert (sorted(numbers(billing)), numbers(stock)) == ([1, 2], [2])


def test_a_message_of_a_transaction_goes_with_its_commit_and_not_with_its_rollback(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived, rig.running():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            OrderPlaced(1).send()
            raise ZeroDivisionError
        with transaction.atomic():
            OrderPlaced(2).send()
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                OrderPlaced(3).send()
                raise ZeroDivisionError
        OrderPlaced(4).send()
        rig.until(lambda: len(arrived) == 2, "the committed messages")
    assert sorted(numbers(arrived)) == [2, 4]


def test_a_message_that_nobody_receives_is_an_error_for_its_sender(rig: Rig) -> None:
    with listening(OrderPaid, group="billing"), rig.running(), pytest.raises(UnroutableError, match="reaches nobody"):
        OrderPlaced(1).send()
    with listening(OrderPaid, group="billing"), rig.running(), pytest.raises(UnroutableError):
        OrderPaid(1).send_to("nobody-of-that-name")


def test_a_retry_returns_to_the_failing_group_only(rig: Rig) -> None:
    failures = [ConnectionError("once"), ConnectionError("twice")]

    def fail_twice(message: OrderPlaced) -> None:
        if failures:
            raise failures.pop(0)

    with (
        listening(OrderPlaced, fail_twice, group="billing") as billing,
        listening(OrderPlaced, group="stock") as stock,
        rig.running(),
    ):
        OrderPlaced(5).send()
        rig.until(lambda: len(billing) == 3, "three attempts")
    assert [context.attempt for _, context in billing] == [1, 2, 3]
    assert [context.is_last_attempt for _, context in billing] == [False, False, True]
    assert len(stock) == 1
    assert MessageEvent.objects.filter(kind="retried", group="billing").count() == 2
    assert MessageEvent.objects.filter(kind="handled").count() == 2


def test_an_exhausted_message_is_a_dead_letter_and_replaying_handles_it(rig: Rig) -> None:
    broken = True

    def fail(message: OrderPlaced) -> None:
        if broken:
            raise ConnectionError("the ledger is away")

    with listening(OrderPlaced, fail, group="billing", max_attempts=2) as arrived, rig.running():
        receipt = OrderPlaced(9, note="keep me").send()
        rig.until(DeadLetter.objects.exists, "the dead letter")
        dead = DeadLetter.objects.get()
        assert (dead.message_id, dead.group, dead.reason, dead.attempt) == (receipt.id, "billing", "exhausted", 2)
        assert (dead.error_type, dead.error) == ("builtins.ConnectionError", "the ledger is away")
        assert "in fail" in dead.traceback
        assert len(dead.fingerprint) == 32
        broken = False
        deadletters.replay(dead)
        rig.until(lambda: len(arrived) == 3, "the replayed message")
    dead.refresh_from_db()
    assert (dead.state, dead.replays) == ("replayed", 1)
    assert arrived[-1][0] == OrderPlaced(9, note="keep me")
    assert (arrived[-1][1].id, arrived[-1][1].attempt) == (receipt.id, 1)


def test_a_permanent_error_is_not_tried_again(rig: Rig) -> None:
    def refuse(message: OrderPlaced) -> None:
        raise PermanentError("no such account")

    with listening(OrderPlaced, refuse, group="billing") as arrived, rig.running():
        OrderPlaced(1).send()
        rig.until(DeadLetter.objects.exists, "the dead letter")
    assert len(arrived) == 1
    assert DeadLetter.objects.get().reason == "permanent"


def test_an_unreadable_message_is_parked_with_its_reason_and_its_neighbours_are_handled(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived, rig.running():
        good = sending.wrap(OrderPlaced(1), "main")
        for body in (b'{"number": "many"}', b"not json", b""):
            rig.bus.send([replace(good, id=f"bad-{len(body)}", body=body, group="billing")], None)
        OrderPlaced(2).send()
        rig.until(lambda: arrived and DeadLetter.objects.count() == 3, "three dead letters and a message")
    assert numbers(arrived) == [2]
    assert set(DeadLetter.objects.values_list("reason", flat=True)) == {"unreadable"}
    assert "$.number" in DeadLetter.objects.get(message_id="bad-18").error


def test_a_version_that_nobody_here_knows_is_parked_with_both_versions(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived, rig.running():
        known = sending.wrap(OrderPlaced(1), "main")
        rig.bus.send([replace(known, version=4, body=b'{"amount": 1}', group="billing")], None)
        OrderPlaced(2).send()
        rig.until(lambda: arrived and DeadLetter.objects.exists(), "the dead letter and the message")
    dead = DeadLetter.objects.get()
    assert (dead.reason, dead.version) == ("unreadable", 4)
    assert "version 4 is newer than 1" in dead.error
    assert numbers(arrived) == [2]


def test_an_oversize_body_is_refused_before_anything_is_stored_and_parked_where_it_arrives_all_the_same(
    rig: Rig,
) -> None:
    large = OrderPlaced(1, note="x" * 2000)
    envelope = sending.wrap(large, "main")  # as by a stranger, or a sender with other settings
    with (
        override_koan(MESSAGING={"BUSES": {"main": rig.settings | {"MAX_BODY": 1024}}}),
        listening(OrderPlaced, group="billing") as arrived,
        listening("order.#", group="audit") as patterns,
        rig.running(),
    ):
        with pytest.raises(
            OversizeMessageError, match=r"its body has \d+ bytes, and MAX_BODY of the bus 'main' is 1024"
        ):
            large.send()
        assert not MessageEvent.objects.exists()
        rig.bus.send([envelope], None)
        OrderPlaced(2).send()
        rig.until(lambda: arrived and patterns and DeadLetter.objects.count() == 2, "the dead letters and the message")
    assert numbers(arrived) == [2]
    assert len(patterns) == 1
    for dead in DeadLetter.objects.all():
        assert (dead.reason, bytes(dead.body)) == ("unreadable", envelope.body)
        assert "MAX_BODY of the bus 'main' is 1024" in dead.error


def test_a_message_without_a_handler_is_parked(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived, rig.running():
        stranger = replace(sending.wrap(OrderPlaced(1), "main"), alias="order.unknown", group="billing")
        rig.bus.send([stranger], None)
        OrderPlaced(2).send()
        rig.until(lambda: arrived and DeadLetter.objects.exists(), "the dead letter and the message")
    assert DeadLetter.objects.get().reason == "unhandled"


def test_a_redelivered_message_has_its_effects_once(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing", name="billing.once") as arrived, rig.running():
        envelope = sending.wrap(OrderPlaced(1), "main")
        rig.bus.send([envelope], None)
        rig.until(lambda: arrived, "the message")
        for _ in range(3):
            sending.redeliver("main", envelope, "billing")
        rig.until(lambda: MessageEvent.objects.filter(kind="duplicate").count() == 3, "the duplicates")
    assert len(arrived) == 1
    assert InboxEntry.objects.get(handler="billing.once").duplicates == 3


def test_an_idempotency_key_makes_two_messages_one_piece_of_work(rig: Rig) -> None:
    with listening(OrderPaid, group="billing") as arrived, rig.running():
        send_many([OrderPaid(1, amount=5), OrderPaid(1, amount=6), OrderPaid(2, amount=7)])
        rig.until(lambda: MessageEvent.objects.filter(kind__in=("handled", "duplicate")).count() == 3, "all three")
        with tenant.use("acme"):
            OrderPaid(1, amount=8).send()
        rig.until(lambda: len(arrived) == 3, "the other tenant's message")
    assert sorted(numbers(arrived)) == [1, 1, 2]


def test_what_a_failed_handler_wrote_is_rolled_back(rig: Rig) -> None:
    def write_and_fail(message: OrderPlaced) -> None:
        InboxEntry.objects.create(
            fingerprint=f"x{message.number}", handler="test", key="x", state="processed", claim=""
        )
        OrderPaid(99).send()
        raise PermanentError("after writing")

    with (
        listening(OrderPlaced, write_and_fail, group="billing"),
        listening(OrderPaid, group="audit") as paid,
        rig.running(),
    ):
        OrderPlaced(1).send()
        rig.until(DeadLetter.objects.exists, "the dead letter")
    assert not InboxEntry.objects.filter(handler="test").exists()
    assert not InboxEntry.objects.filter(group="billing").exists()
    assert paid == []


def test_a_batch_handler_gets_lists_and_one_bad_message_condemns_nobody(rig: Rig) -> None:
    sizes: list[int] = []

    def work(messages: list[OrderPlaced]) -> None:
        sizes.append(len(messages))
        if any(message.number == 13 for message in messages):
            raise PermanentError("thirteen")

    with listening(OrderPlaced, work, group="search", batch=10) as arrived:
        if isinstance(rig.bus, BrokerBus):
            with rig.running():
                pass  # declares the queue
        send_many([OrderPlaced(number) for number in range(40)])
        with rig.running(size=1):
            rig.until(
                lambda: MessageEvent.objects.filter(kind="handled").count() == 39 and DeadLetter.objects.exists(),
                "39 handled and one dead letter",
            )
    assert max(sizes) > 1
    assert max(sizes) <= 10
    assert {message.number for messages, _ in arrived for message in messages} == set(range(40))


def test_a_delayed_message_waits_and_can_be_cancelled(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived, rig.running():
        OrderPlaced(1).send(delay=timedelta(seconds=0.6))
        late = OrderPlaced(2).send(delay=timedelta(hours=1))
        OrderPlaced(3).send()
        rig.until(lambda: arrived, "the first message")
        assert numbers(arrived) == [3]
        assert late.cancel()
        assert not late.cancel()
        rig.until(lambda: len(arrived) == 2, "the delayed message")
    assert numbers(arrived) == [3, 1]


def test_correlation_tenant_and_cause_travel_with_what_a_handler_sends(rig: Rig) -> None:
    seen: dict[str, Any] = {}

    def pay(message: OrderPlaced) -> None:
        seen["inside"] = (correlation.current(), tenant.current())
        OrderPaid(message.number).send()

    with (
        listening(OrderPlaced, pay, group="billing"),
        listening(OrderPaid, group="audit") as paid,
        rig.running(),
        correlation.use("story-1"),
        tenant.use("acme"),
    ):
        receipt = OrderPlaced(1).send()
        rig.until(lambda: paid, "the consequence")
    context = paid[0][1]
    assert seen["inside"] == ("story-1", "acme")
    assert (context.correlation_id, context.causation_id, context.tenant) == ("story-1", receipt.id, "acme")
    assert set(MessageEvent.objects.values_list("correlation_id", flat=True)) == {"story-1"}


def test_an_async_handler_keeps_its_transaction(rig: Rig) -> None:
    from koan_django.messaging import handler, handlers

    done: list[int] = []

    @handler(OrderPlaced, group="billing", name="async-one")
    async def receive(message: OrderPlaced) -> None:
        done.append(message.number)
        await InboxEntry.objects.acreate(fingerprint="a", handler="async", key="x", state="processed", claim="")
        if message.number == 13:
            raise PermanentError("thirteen")

    try:
        with rig.running():
            OrderPlaced(13).send()
            rig.until(DeadLetter.objects.exists, "the dead letter")
            assert not InboxEntry.objects.filter(handler="async").exists()
            OrderPlaced(1).send()
            rig.until(InboxEntry.objects.filter(handler="async").exists, "the row")
    finally:
        handlers.forget("async-one")
    assert done == [13, 1]


def test_long_work_runs_outside_a_transaction_and_once(rig: Rig) -> None:
    from django.db import connection

    inside: list[bool] = []

    def work(message: OrderPlaced) -> None:
        inside.append(connection.in_atomic_block)

    with listening(OrderPlaced, work, group="media", atomic=False, name="media.work") as arrived, rig.running():
        envelope = sending.wrap(OrderPlaced(1), "main")
        rig.bus.send([envelope], None)
        rig.until(lambda: InboxEntry.objects.filter(handler="media.work", state="processed").exists(), "the work")
        sending.redeliver("main", envelope, "media")
        rig.until(lambda: MessageEvent.objects.filter(kind="duplicate").exists(), "the duplicate")
    assert inside == [False]
    assert len(arrived) == 1


def test_a_large_body_arrives_whole(rig: Rig) -> None:
    note = "é" * 600_000
    with listening(OrderPlaced, group="billing") as arrived, rig.running():
        OrderPlaced(1, note=note).send()
        rig.until(lambda: arrived, "the message")
    assert arrived[0][0].note == note


def test_a_drained_consumer_leaves_the_rest_for_the_next(rig: Rig) -> None:
    work = [0.2]  # seconds a message: all of them would take longer than a busy machine needs to see three
    with listening(OrderPlaced, lambda message: time.sleep(work[0]), group="billing") as arrived:
        if isinstance(rig.bus, BrokerBus):
            with rig.running():
                pass  # declares the queues
        # Before anybody works: on SQLite whoever sends would wait until the handlers let the database go.
        send_many([OrderPlaced(number) for number in range(30)])
        with rig.running(size=1):
            rig.until(lambda: len(arrived) >= 3, "some messages")
        work[0] = 0.0
        handled_first = len(arrived)
        assert handled_first < 30
        with rig.running():
            rig.until(lambda: MessageEvent.objects.filter(kind="handled").count() == 30, "the rest")
    assert sorted(numbers(arrived)) == list(range(30))


def test_a_busy_group_starves_no_other(rig: Rig) -> None:
    with (
        listening(OrderPlaced, lambda message: time.sleep(0.03), group="slow") as slow,
        listening(OrderPaid, group="quick") as quick,
    ):
        if isinstance(rig.bus, BrokerBus):
            with rig.running():
                pass  # declares the queues
        send_many([OrderPlaced(number) for number in range(40)])
        send_many([OrderPaid(number) for number in range(5)])
        with rig.running(size=1):
            rig.until(lambda: len(quick) == 5, "the quick group")
            assert len(slow) < 40
