"""The outbox and its relay, on a real broker that comes and goes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core.functions import Now
from koan_django.core.retry import RetryPolicy
from koan_django.messaging import UnroutableError, send_many
from koan_django.messaging.buses.broker import Outcome
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.models import MessageEvent, OutboxLane, OutboxMessage, OutboxRelay
from koan_django.messaging.outgoing import relay as relays
from koan_django.messaging.outgoing.flights import Flight
from koan_django.messaging.outgoing.relay import Relay
from koan_django.messaging.outgoing.waves import waves
from koan_django.messaging.routing import LANES, partition_of
from koan_django.testing import broker_io_outside_transactions
from koan_django.testing.faults import environment, fault
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.wire import Wire
from tests.services.process import Process
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
ROOT = Path(__file__).parents[2]


class Relaying:
    """A relay that runs for the block."""

    def __init__(self, bus: Any) -> None:
        self.relay = Relay(bus)

    def __enter__(self) -> Relay:
        self.relay.start()
        return self.relay

    def __exit__(self, *exc_info: object) -> None:
        self.relay.stop(20)


def bound(bus: Any, wire: Wire) -> str:
    """One queue for all partitions of the group ``stock``."""
    queue = wire.queue(bus.names.group("stock"))
    wire.channel.exchange_declare(bus.names.direct, "topic", durable=True, auto_delete=False)
    wire.channel.queue_bind(queue, bus.names.direct, "stock.*")
    return queue


def numbers_in(wire: Wire, queue: str) -> list[int]:
    return [json.loads(each.body)["number"] for each in wire.take(queue)]


def test_what_is_sent_while_the_broker_is_down_waits_and_arrives_in_order_with_its_ids(
    use_bus: UseBus, proxy: Proxy, through: str, wire: Wire
) -> None:
    bus = use_bus(through)
    queue = wire.queue(bus.names.group("billing"))
    proxy.shut()
    with listening(OrderPlaced, group="billing"):
        receipts = [OrderPlaced(number).send_to("billing") for number in range(20)]
        with transaction.atomic():
            receipts += [OrderPlaced(number).send_to("billing") for number in range(20, 30)]
        assert {receipt.state for receipt in receipts} == {"accepted"}
        assert OutboxMessage.objects.count() == 30
        with Relaying(bus) as relay:
            wait_until(lambda: "cannot be reached" in relay.error, what="the relay to say what is wrong")
            assert relay.finding().status == "unhealthy"
            assert OutboxMessage.objects.filter(tries=0).count() == 30  # an outage is not their failure
            proxy.open()
            wait_until(lambda: not OutboxMessage.objects.exists(), 20, "the outbox to be published")
            assert relay.finding().status == "healthy"
    arrived = wire.take(queue)
    assert [each.properties["message_id"] for each in arrived] == [receipt.id for receipt in receipts]
    assert (
        MessageEvent.objects.filter(kind="sent").count() == MessageEvent.objects.filter(kind="published").count() == 30
    )


def test_what_reaches_nobody_is_parked_and_holds_up_no_other(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "UNROUTABLE_TRIES", 2)
    bus = use_bus(vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    with listening(OrderPlaced, group="billing"), listening(OrderPlaced, group="gone"), transaction.atomic():
        OrderPlaced(1).send_to("gone")
        OrderPlaced(2).send_to("billing")
    with Relaying(bus):
        wait_until(lambda: OutboxMessage.objects.filter(state="parked").exists(), what="the message to be parked")
    parked = OutboxMessage.objects.get()
    assert (parked.group, parked.tries) == ("gone", 2)
    assert "no queue receives" in parked.last_error
    assert numbers_in(wire, queue) == [2]
    assert MessageEvent.objects.get(kind="parked").message_id == parked.message_id


def test_what_is_sent_before_its_queue_is_declared_arrives(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    """As on a first deployment, when the relay is there before the worker that consumes."""
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), transaction.atomic():
        OrderPlaced(1).send_to("billing")
    with Relaying(bus):
        wait_until(lambda: OutboxMessage.objects.get().tries == 1, what="the broker to return the message")
        queue = wire.queue(bus.names.group("billing"))
        wait_until(lambda: not OutboxMessage.objects.exists(), what="the message to be published")
    assert numbers_in(wire, queue) == [1]


def test_what_a_full_queue_refuses_is_tried_again_later_and_later(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    full = wire.queue(bus.names.group("billing"), **{"x-max-length": 1, "x-overflow": "reject-publish"})
    good = wire.queue(bus.names.group("stock"))
    wire.publish(full, b'{"number": 0}')
    with listening(OrderPlaced, group="billing"), listening(OrderPlaced, group="stock"), transaction.atomic():
        OrderPlaced(1).send_to("billing")
        OrderPlaced(2).send_to("stock")
    with Relaying(bus) as relay:
        wait_until(lambda: OutboxMessage.objects.filter(tries__gte=2).exists(), what="a second try")
        waiting = OutboxMessage.objects.get()
        assert timedelta(seconds=1) < waiting.available_at - timezone.now() < timedelta(seconds=3)
        assert "refused" in waiting.last_error
        assert relay.error == ""  # nothing is wrong with the relay
        assert numbers_in(wire, good) == [2]
        wire.take(full)
        wait_until(lambda: not OutboxMessage.objects.exists(), what="the message to be published")
    assert numbers_in(wire, full) == [1]


def test_what_the_broker_did_not_answer_is_published_again_with_its_id(
    use_bus: UseBus, proxy: Proxy, through: str, wire: Wire
) -> None:
    bus = use_bus(through, CONFIRM_TIMEOUT=0.3)
    queue = wire.queue(bus.names.group("billing"))
    with listening(OrderPlaced, group="billing"):
        assert OrderPlaced(1).send_to("billing").state == "published"
        proxy.pause("down")
        receipt = OrderPlaced(2).send_to("billing")
    assert receipt.state == "accepted"
    assert "no confirm" in OutboxMessage.objects.get().last_error
    proxy.resume()
    with Relaying(bus):
        wait_until(lambda: not OutboxMessage.objects.exists(), 20, "the message to be published")
    ids = [each.properties["message_id"] for each in wire.take(queue)]
    assert ids[1:] == [receipt.id] * 2  # it had arrived: the inbox takes the second for what it is


def test_two_relays_share_the_lanes_and_publish_at_the_same_time(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    queue = bound(bus, wire)
    inside, most = [0], [0]
    publish = bus.publish

    def watched(envelopes: Sequence[Envelope]) -> list[Outcome]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)  # long enough for the other one to come
        try:
            return publish(envelopes)
        finally:
            inside[0] -= 1

    bus.publish = watched
    keys = [f"sku-{number}" for number in range(20)]
    with listening(StockMoved, group="stock"), Relaying(bus) as one, Relaying(bus) as other:
        wait_until(lambda: len(one.lanes.held) == len(other.lanes.held) == LANES // 2, 30, "each to have its half")
        for count in range(4):
            with transaction.atomic():
                send_many([StockMoved(key, count) for key in keys], group="stock")
        wait_until(lambda: not OutboxMessage.objects.exists(), 60, "the outbox to be published")
        # A relay counts what it has published after it has taken it out of the outbox.
        wait_until(lambda: one.published + other.published == 80, 10, "both relays to have counted")
        assert one.published > 0 < other.published
    assert most == [2]
    arrived: dict[str, list[int]] = defaultdict(list)
    for each in wire.take(queue):
        body = json.loads(each.body)
        arrived[body["sku"]].append(body["count"])
    assert arrived == {key: list(range(4)) for key in keys}


def test_the_others_take_over_when_one_stops(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    with Relaying(bus) as one:
        wait_until(lambda: len(one.lanes.held) == LANES, 30, "the first to have all lanes")
        assert one.finding().message == "publishing"
        with Relaying(bus) as other:
            wait_until(lambda: len(other.lanes.held) == LANES // 2, 30, "the second to have its half")
            one.stop(10)
            wait_until(lambda: len(other.lanes.held) == LANES, 30, "the second to have all lanes")
    assert not OutboxRelay.objects.exists()
    assert not OutboxLane.objects.filter(lease_until__isnull=False).exists()


def test_a_relay_that_lost_its_lanes_stops_publishing(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    wire.queue(bus.names.group("billing"))
    with Relaying(bus) as relay, listening(OrderPlaced, group="billing"):
        wait_until(lambda: len(relay.lanes.held) == LANES, 30, "the relay to hold all lanes")
        taken_over(LANES)
        time.sleep(1.1)  # what was renewed within a second is taken to hold
        with transaction.atomic():
            OrderPlaced(1).send_to("billing")
        wait_until(lambda: relay.finding().message == "standing by", 30, "the relay to stand by")
        assert OutboxMessage.objects.count() == 1


def taken_over(lanes: int) -> None:
    """Somebody else, who lives, has taken as many lanes."""
    later = timezone.now() + timedelta(minutes=5)
    rows = OutboxLane.objects.filter(number__lt=lanes)
    assert rows.update(lease_owner="another", lease_token=F("lease_token") + 1, lease_until=later) == lanes


@pytest.mark.usefixtures("impatient")
def test_a_relay_that_stood_still_puts_off_nothing_that_another_has_taken_over(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    """What the broker confirmed to it is deleted all the same: it is there, whoever published it."""
    bus = use_bus(vhost.url)
    lanes = Lanes(bus, wire, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    wire.publish(lanes.full, b'{"count": -1}')
    with listening(StockMoved, group="stock"), transaction.atomic():
        refused = StockMoved(lanes.full_key, 1).send_to("stock")
        StockMoved(lanes.free_key, 1).send_to("stock")
    publish = bus.publish

    def slowly(envelopes: Sequence[Envelope]) -> list[Outcome]:
        outcomes = publish(envelopes)
        taken_over(LANES)
        return outcomes

    bus.publish = slowly
    relay = Relay(bus)
    relay._round()
    assert relay.published == 1
    left = OutboxMessage.objects.get()
    assert (left.message_id, left.tries) == (refused.id, 0)
    assert lanes.counts(lanes.free) == [1]


def test_no_transaction_is_open_while_anybody_talks_to_the_broker(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    wire.queue(bus.names.group("billing"))
    publish, seen = bus.publish, []

    def watched(envelopes: Sequence[Envelope], delay: timedelta | None = None) -> list[Outcome]:
        seen.append((connection.in_atomic_block, connection.get_autocommit()))
        return publish(envelopes, delay)

    bus.publish = watched
    with broker_io_outside_transactions() as looked, listening(OrderPlaced, group="billing"):
        with transaction.atomic():
            OrderPlaced(1).send_to("billing")
        OrderPlaced(2).send_to("billing")
        with Relaying(bus):
            wait_until(lambda: not OutboxMessage.objects.exists(), what="the message to be published")
    assert seen == [(False, True)] * 2
    assert looked.passed == 2


class Beside:
    """A relay of small batches, led by hand; ``left`` says what was in the outbox as it waited for each, and ``begun``
    how many had begun by then.
    """

    def __init__(self, bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relays, "BATCH", 3)
        self.relay = Relay(bus)
        self.left: list[int] = []
        self.begun: list[int] = []
        self._count = 0
        self.after = lambda: None
        self._begin = bus.begin
        bus.begin = self.begin

    def begin(self, envelopes: Sequence[Envelope]) -> Callable[[], list[Outcome]]:
        assert not connection.in_atomic_block
        wait = self._begin(envelopes)
        self._count += 1

        def waited() -> list[Outcome]:
            self.left.append(OutboxMessage.objects.count())
            self.begun.append(self._count)
            found = wait()
            self.after()
            return found

        return waited


def stored(count: int) -> None:
    with listening(OrderPlaced, group="billing"), transaction.atomic():
        send_many([OrderPlaced(number) for number in range(count)], group="billing")


@pytest.fixture
def beside(use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Beside:
    return Beside(use_bus(vhost.url), monkeypatch)


class TestWhileABatchIsOnItsWay:
    def test_the_one_before_is_deleted_and_the_next_is_read(self, beside: Beside, wire: Wire) -> None:
        queue = wire.queue(beside.relay.bus.names.group("billing"))
        stored(8)
        for left in (8, 5, 0):
            beside.relay._round()
            assert OutboxMessage.objects.count() == left
        assert beside.left == [8, 5, 5]  # the last is no whole batch: nothing is expected behind it
        assert numbers_in(wire, queue) == list(range(8))

    def test_the_next_is_on_its_way_before_this_one_is_confirmed(self, beside: Beside, wire: Wire) -> None:
        wire.queue(beside.relay.bus.names.group("billing"))
        stored(9)
        for _ in range(3):
            beside.relay._round()
        assert beside.begun == [2, 3, 3]
        assert not OutboxMessage.objects.exists()

    def test_what_shares_a_key_with_it_waits_for_its_confirm(self, beside: Beside, wire: Wire) -> None:
        queue = bound(beside.relay.bus, wire)
        with listening(StockMoved, group="stock"), transaction.atomic():
            for count, key in enumerate("abcdaefgh"):
                StockMoved(key, count).send_to("stock")
        for left in (9, 6, 0):
            beside.relay._round()
            assert OutboxMessage.objects.count() == left
        assert beside.begun == [1, 3, 3]
        assert [json.loads(each.body)["count"] for each in wire.take(queue)] == list(range(9))

    def test_a_bus_that_waits_at_once_is_given_one_after_the_other(self, beside: Beside, wire: Wire) -> None:
        """What follows would be given to it before anybody knows what became of this one."""
        queue = wire.queue(beside.relay.bus.names.group("billing"))
        beside.relay.bus.begins = False  # type: ignore[misc]
        stored(8)
        for left in (5, 2, 0):
            beside.relay._round()
            assert OutboxMessage.objects.count() == left
        assert beside.begun == []
        assert numbers_in(wire, queue) == list(range(8))

    def test_what_is_large_does_not_travel_beside_another(
        self, beside: Beside, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of a key in this one that have to wait for another would wait for all of it."""
        queue = wire.queue(beside.relay.bus.names.group("billing"))
        stored(3)
        monkeypatch.setattr(relays, "BESIDE_BYTES", sum(len(row.body) for row in OutboxMessage.objects.all()))
        with listening(OrderPlaced, group="billing"), transaction.atomic():
            send_many([OrderPlaced(1000 + number) for number in range(3)], group="billing")
        for left in (6, 0):
            beside.relay._round()
            assert OutboxMessage.objects.count() == left
        assert beside.begun == [1]
        assert numbers_in(wire, queue) == [0, 1, 2, 1000, 1001, 1002]

    @pytest.mark.usefixtures("impatient")
    def test_a_refusal_is_written_down_with_what_travels_beside_it(self, beside: Beside, wire: Wire) -> None:
        lanes = Lanes(beside.relay.bus, wire, **{"x-max-length": 1, "x-overflow": "reject-publish"})
        wire.publish(lanes.full, b'{"count": -1}')
        others = wire.queue(beside.relay.bus.names.group("billing"))
        with listening(StockMoved, group="stock"), transaction.atomic():
            refused = StockMoved(lanes.full_key, 0).send_to("stock")
        stored(5)
        with listening(StockMoved, group="stock"), transaction.atomic():
            StockMoved(lanes.full_key, 1).send_to("stock")
        beside.relay._round()
        assert beside.begun == [2, 2]
        left = OutboxMessage.objects.order_by("id")
        assert [(row.message_id == refused.id, row.tries) for row in left] == [(True, 1), (False, 0)]
        assert numbers_in(wire, others) == list(range(5))
        assert lanes.counts(lanes.full) == [-1]
        while OutboxMessage.objects.exists():
            beside.relay._step()
            time.sleep(0.03)
            wire.take(lanes.full)
        assert beside.relay.published == 7

    def test_a_broker_that_is_cut_off_loses_none_of_both(
        self, use_bus: UseBus, proxy: Proxy, through: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beside = Beside(use_bus(through), monkeypatch)
        queue = wire.queue(beside.relay.bus.names.group("billing"))
        monkeypatch.setattr(relays, "PAUSE_SECONDS", 0.05)
        stored(9)
        assert beside.relay.bus.publish([OutboxMessage.objects.earliest("id").envelope()])  # it is connected now
        wire.take(queue)
        proxy.pause("down")
        cut = threading.Timer(0.3, proxy.cut)
        cut.start()
        beside.relay._step()
        assert OutboxMessage.objects.count() == 9
        assert OutboxMessage.objects.filter(tries=1).count() == 6
        proxy.resume()
        OutboxMessage.objects.update(available_at=Now())
        wait_until(lambda: beside.relay._step() or not OutboxMessage.objects.exists(), what="all to be published")
        assert list(dict.fromkeys(numbers_in(wire, queue))) == list(range(9))

    def test_what_was_read_is_not_published_without_its_lanes(
        self, beside: Beside, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(relays, "FRESH", timedelta(0))
        queue = wire.queue(beside.relay.bus.names.group("billing"))
        stored(9)
        beside.relay._round()
        assert OutboxMessage.objects.count() == 9
        taken_over(LANES)
        for left in (6, 3, 3):  # what was confirmed is deleted all the same
            beside.relay._round()
            assert OutboxMessage.objects.count() == left
        assert numbers_in(wire, queue) == list(range(6))  # the second was on its way

    def test_a_relay_that_is_told_to_end_writes_down_what_was_published(self, beside: Beside, wire: Wire) -> None:
        queue = wire.queue(beside.relay.bus.names.group("billing"))
        stored(9)
        beside.after = beside.relay.stopping.set
        beside.relay.run()
        assert OutboxMessage.objects.count() == 3
        assert numbers_in(wire, queue) == list(range(6))

    def test_a_database_that_fails_loses_nothing_and_changes_no_order(
        self, beside: Beside, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = wire.queue(beside.relay.bus.names.group("billing"))
        stored(9)
        due, failures = beside.relay._due, [OperationalError("gone"), OperationalError("gone again")]

        def sometimes(beside: Sequence[Any] = ()) -> Any:
            if beside and failures:
                raise failures.pop()
            return due(beside)

        monkeypatch.setattr(beside.relay, "_due", sometimes)
        monkeypatch.setattr(relays, "PAUSE_SECONDS", 0)
        while OutboxMessage.objects.exists():
            beside.relay._step()
        arrived = numbers_in(wire, queue)
        assert not failures
        assert len(arrived) == 9 + 2 * 3
        assert list(dict.fromkeys(arrived)) == list(range(9))

    def test_large_messages_are_not_in_memory_twice(
        self, beside: Beside, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(relays, "BESIDE_BYTES", 10)
        wire.queue(beside.relay.bus.names.group("billing"))
        stored(9)
        for left in (6, 3, 0):
            beside.relay._round()
            assert OutboxMessage.objects.count() == left
        assert beside.left == []


def test_a_relay_that_published_within_a_transaction_would_be_found_out(
    use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), transaction.atomic():
        OrderPlaced(1).send_to("billing")
    relay = Relay(bus)
    land = Flight.land

    def within(flight: Flight, may_go_on: Callable[[], bool]) -> Any:
        with transaction.atomic():
            return land(flight, may_go_on)

    monkeypatch.setattr(Flight, "land", within)
    with pytest.raises(AssertionError, match="a transaction is open on default"), broker_io_outside_transactions():
        relay._step()
    assert "a transaction is open on default" in relay.error
    assert OutboxMessage.objects.get().tries == 0


def test_the_outbox_keeps_what_savepoints_keep(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"):
        with transaction.atomic():
            OrderPlaced(1).send_to("billing")
            with pytest.raises(LookupError), transaction.atomic():
                OrderPlaced(2).send_to("billing")
                with transaction.atomic():
                    OrderPlaced(3).send_to("billing")
                raise LookupError
            with transaction.atomic():
                OrderPlaced(4).send_to("billing")
            # Of Django 6.1 on, which warns of the other name.
            before = getattr(transaction, "savepoint_create", transaction.savepoint)()
            OrderPlaced(5).send_to("billing")
            transaction.savepoint_rollback(before)
            transaction.on_commit(lambda: OrderPlaced(6).send_to("billing", delay=timedelta(hours=1)))
        with pytest.raises(LookupError), transaction.atomic():
            OrderPlaced(7).send_to("billing")
            transaction.on_commit(lambda: OrderPlaced(8).send_to("billing", delay=timedelta(hours=1)))
            raise LookupError
    kept = [json.loads(bytes(row.body))["number"] for row in OutboxMessage.objects.order_by("id")]
    assert kept == [1, 4, 6]
    assert list(MessageEvent.objects.values_list("kind", flat=True)) == ["sent"] * 3


def test_an_idle_relay_hardly_writes(use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = use_bus(vhost.url)
    with Relaying(bus) as relay:
        wait_until(lambda: len(relay.lanes.held) == LANES, 30, "the relay to hold all lanes")
        before = [list(OutboxLane.objects.values()), list(OutboxRelay.objects.values())]
        time.sleep(1.5)  # a hundred polls, and a look
        assert before == [list(OutboxLane.objects.values()), list(OutboxRelay.objects.values())]


def test_a_database_that_is_restarted_only_interrupts(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("a file does not restart")
    bus = use_bus(vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    with Relaying(bus) as relay, listening(OrderPlaced, group="billing"):
        for number in range(5):
            wait_until(lambda: relay.finding().message == "publishing", what="the relay to hold its lease")
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            with transaction.atomic():
                OrderPlaced(number).send_to("billing")
        wait_until(lambda: not OutboxMessage.objects.exists(), 20, "the outbox to be published")
    assert list(dict.fromkeys(numbers_in(wire, queue))) == [0, 1, 2, 3, 4]


PROGRAM = """
import django, sys
django.setup()
from koan_django.messaging.buses import registry
from koan_django.messaging.outgoing.relay import Relay
from koan_django.messaging.routing import partition_of
from koan_django.messaging.outgoing.waves import waves
from koan_django.testing import override_koan
from koan_django.testing.faults import arm_from_environment
import koan_django.messaging.outgoing.relay as module

arm_from_environment()

module.BATCH = 10
bus = {"URL": sys.argv[1], "PREFIX": sys.argv[2], "POLL_INTERVAL": 0.01}
override_koan(MESSAGING={"BUSES": {"main": bus}}).enable()
print("relaying", flush=True)
Relay(registry.get("main")).run()
"""


def test_a_relay_killed_between_the_confirm_and_the_outbox_repeats_and_loses_nothing(
    use_bus: UseBus, vhost: Vhost, wire: Wire, tmp_path: Path
) -> None:
    """Each of the first three is killed when the broker has its fifth batch of ten and the outbox has it, too."""
    bus = use_bus(vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    with listening(OrderPlaced, group="billing"), transaction.atomic():
        send_many([OrderPlaced(number) for number in range(150)], group="billing")
    for left in (110, 70, 30):
        forget_relays()
        child = relay_process(tmp_path / f"{left}.log", vhost.url, bus.names.prefix, kill_after=4)
        assert child.wait(30) == -signal.SIGKILL
        child.kill()
        assert OutboxMessage.objects.count() == left
    forget_relays()
    child = relay_process(tmp_path / "last.log", vhost.url, bus.names.prefix, kill_after=4)
    try:
        wait_until(lambda: not OutboxMessage.objects.exists(), 30, "the rest to be published")
    finally:
        child.kill()
    arrived = numbers_in(wire, queue)
    assert 150 + 3 * 10 <= len(arrived) <= 150 + 3 * 20  # the next was on its way
    assert list(dict.fromkeys(arrived)) == list(range(150))  # in order, but for what was published twice


def forget_relays() -> None:
    """As when the leases of those that were killed have ended."""
    OutboxLane.objects.update(lease_until=None)
    OutboxRelay.objects.all().delete()


def relay_process(log: Path, url: str, prefix: str, *, kill_after: int) -> Process:
    settings = connection.settings_dict
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.messaging.child_settings",
        "KOAN_CHILD_DATABASE": str(settings["NAME"]),
        **environment("messaging.relay.published", skip=kill_after),
    }
    return Process("relay", [sys.executable, "-c", PROGRAM, url, prefix], log, env=env, cwd=ROOT)


def test_a_send_in_a_transaction_is_two_queries_and_no_word_to_the_broker(use_bus: UseBus, vhost: Vhost) -> None:
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), transaction.atomic(), CaptureQueriesContext(connection) as queries:
        OrderPlaced(1).send()
    assert [query["sql"].split()[0] for query in queries] == [
        "INSERT",
        "INSERT",
    ]  # the message and its event
    told = connection.vendor == "postgresql"  # the relay is, in the same statement
    assert ("pg_notify" in queries[0]["sql"]) is told
    assert bus._publishers == {}
    assert threading.active_count() < 20


def test_a_send_that_fails_leaves_the_transaction_as_a_failed_save_does(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url)
    before_commit = "messaging.outbox.before_commit"
    with listening(OrderPlaced, group="billing"):
        with transaction.atomic():
            OrderPlaced(1).send_to("billing")
            with fault(before_commit, error=OperationalError), pytest.raises(OperationalError), transaction.atomic():
                OrderPlaced(2).send_to("billing")  # in a savepoint of the caller
            OrderPlaced(3).send_to("billing")
        with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
            OrderPlaced(4).send_to("billing")
            with fault(before_commit, error=OperationalError), pytest.raises(OperationalError):
                OrderPlaced(5).send_to("billing")
            OrderPlaced(6).send_to("billing")
    kept = [json.loads(bytes(row.body))["number"] for row in OutboxMessage.objects.order_by("id")]
    assert kept == [1, 3]


def test_a_row_whose_insert_was_rolled_back_with_its_notification_is_told_of_again(
    use_bus: UseBus, vhost: Vhost
) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), transaction.atomic(), CaptureQueriesContext(connection) as queries:
        with pytest.raises(LookupError), transaction.atomic():
            OrderPlaced(1).send_to("billing")
            raise LookupError
        OrderPlaced(2).send_to("billing")
        OrderPlaced(3).send_to("billing")
    told = ["pg_notify" in each["sql"] for each in queries if "koan_messaging_outboxmessage" in each["sql"]]
    assert told == ([True, True, False] if connection.vendor == "postgresql" else [False] * 3)


def test_a_message_of_a_key_waits_behind_earlier_ones_of_its_key(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    queue = bound(bus, wire)
    with listening(StockMoved, group="stock"):
        with transaction.atomic():
            first = StockMoved("a", 1).send_to("stock")
        second = StockMoved("a", 2).send_to("stock")
        delayed = StockMoved("b", 1).send_to("stock", delay=timedelta(hours=1))
        third = StockMoved("b", 2).send_to("stock")
    assert (second.state, delayed.state, third.state) == ("accepted", "accepted", "published")
    with Relaying(bus):
        wait_until(lambda: OutboxMessage.objects.count() == 1, what="the due messages to be published")
    assert [each.properties["message_id"] for each in wire.take(queue)] == [third.id, first.id, second.id]


class Lanes:
    """The queues of two partitions, as a worker would bind them; that of ``full`` takes one message at a time."""

    def __init__(self, bus: Any, wire: Wire, **full: Any) -> None:
        self.names, self._wire = bus.names, wire
        wire.channel.exchange_declare(bus.names.direct, "topic", durable=True, auto_delete=False)
        self.full_key, self.free_key = "a", "b"
        numbers = [partition_of(key, bus.options.partitions) for key in (self.full_key, self.free_key)]
        assert len(set(numbers)) == 2
        self.full, self.free = (bus.names.partition("stock", number) for number in numbers)
        for queue, number, arguments in ((self.full, numbers[0], full), (self.free, numbers[1], {})):
            wire.queue(queue, **arguments)
            wire.channel.queue_bind(queue, bus.names.direct, f"stock.p{number}")

    def counts(self, queue: str) -> list[int]:
        return [json.loads(each.body)["count"] for each in self._wire.take(queue)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish again soon."""
    soon = RetryPolicy(max_attempts=1_000, first_delay=timedelta(milliseconds=20), factor=1, jitter=0)
    monkeypatch.setattr(relays, "BACKOFF", soon)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("batch", [relays.BATCH, 7])  # all at once, and batches that are read ahead
def test_a_full_partition_keeps_the_order_of_its_keys_and_holds_up_no_other(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(relays, "BATCH", batch)
    bus = use_bus(vhost.url)
    lanes = Lanes(bus, wire, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    wire.publish(lanes.full, b'{"count": -1}')
    with listening(StockMoved, group="stock"), transaction.atomic():
        for number in range(60):
            for key in (lanes.full_key, lanes.free_key):
                StockMoved(key, number).send_to("stock")
    with Relaying(bus):
        wait_until(lambda: OutboxMessage.objects.count() == 60, what="what has room to be published")
        assert lanes.counts(lanes.free) == list(range(60))
        arrived: list[int] = []

        def take() -> bool:
            arrived.extend(lanes.counts(lanes.full))
            return len(arrived) > 60

        wait_until(take, 30, "the others, as room is made")
    assert arrived == list(range(-1, 60))
    assert not OutboxMessage.objects.exists()


@pytest.mark.usefixtures("impatient")
def test_a_message_that_is_sent_while_one_of_its_key_is_put_off_waits_behind_it(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another relay takes over, which knows nothing of it."""
    monkeypatch.setattr(relays, "BACKOFF", replace(relays.BACKOFF, first_delay=timedelta(seconds=2)))
    bus = use_bus(vhost.url)
    lanes = Lanes(bus, wire, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    wire.publish(lanes.full, b'{"count": -1}')
    with listening(StockMoved, group="stock"):
        assert StockMoved(lanes.full_key, 0).send_to("stock").state == "accepted"
        with Relaying(bus):
            wait_until(lambda: OutboxMessage.objects.get().tries == 1, what="the broker to refuse it")
        assert lanes.counts(lanes.full) == [-1]  # there is room now
        with transaction.atomic():
            for number in range(1, 4):
                StockMoved(lanes.full_key, number).send_to("stock")
                StockMoved(lanes.free_key, number).send_to("stock")
        wire.channel.queue_delete(lanes.full)
        lanes = Lanes(bus, wire)
        with Relaying(bus):
            wait_until(lambda: OutboxMessage.objects.count() == 4, what="the others to be published")
            assert lanes.counts(lanes.free) == [1, 2, 3]
            wait_until(lambda: not OutboxMessage.objects.exists(), 20, "what was held up")
    assert lanes.counts(lanes.full) == [0, 1, 2, 3]


@pytest.mark.usefixtures("impatient")
def test_what_reaches_nobody_holds_up_its_key_until_it_is_parked(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "UNROUTABLE_TRIES", 3)
    bus = use_bus(vhost.url)
    lanes = Lanes(bus, wire)
    with listening(StockMoved, group="stock"), listening(StockMoved, group="gone"), transaction.atomic():
        StockMoved(lanes.full_key, 0).send_to("gone")
        StockMoved(lanes.full_key, 1).send_to("stock")
    with Relaying(bus):
        wait_until(lambda: OutboxMessage.objects.filter(state="parked").exists(), what="the first to be parked")
        wait_until(lambda: OutboxMessage.objects.count() == 1, what="the second to be published")
    kinds = MessageEvent.objects.filter(kind__in=["parked", "published"]).order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["parked", "published"]


def test_a_relay_asks_who_is_held_up_only_while_somebody_is(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    lanes = Lanes(bus, wire)
    relay = Relay(bus)
    asked: list[int] = []
    for number in range(3):
        with listening(StockMoved, group="stock"), transaction.atomic():
            StockMoved(lanes.full_key, number).send_to("stock")
        with CaptureQueriesContext(connection) as queries:
            assert relay._round() == 0.0
        asked.append(len([each for each in queries if "MIN(" in each["sql"].upper()]))
    assert asked == [1, 0, 0]
    assert lanes.counts(lanes.full) == [0, 1, 2]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], []),
        ([None, None], [[0, 1]]),
        (["a", "b", None], [[0, 1, 2]]),
        (["a", "a", None, "b", "a"], [[0, 2, 3], [1], [4]]),
    ],
    ids=["none", "keyless", "different", "same"],
)
def test_a_wave_holds_no_key_twice(keys: list[str | None], expected: list[list[int]]) -> None:
    assert waves(keys) == expected


@pytest.mark.parametrize("headers", [{}, {"koan-tenant": "a\u20ac\U0001f600"}, {"koan-tenant": "half \ud83d"}])
def test_headers_are_read_as_they_were_written(headers: dict[str, str]) -> None:
    if connection.vendor != "sqlite" and "half \ud83d" in headers.values():
        pytest.skip("the database's JSON refuses it")
    envelope = Envelope("m1", "order.placed", 2, b"{}", headers, "order.placed.p", "billing", 3, 4)
    OutboxMessage.holding("main", envelope).save()
    [found] = OutboxMessage.objects.due("main", 10)
    assert found.envelope == envelope


def test_a_message_that_was_due_cannot_be_recalled(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"):
        with transaction.atomic():
            due = OrderPlaced(1).send_to("billing")
        later = OrderPlaced(2).send_to("billing", delay=timedelta(hours=1))
    assert not due.cancel()  # a relay may be publishing it at this moment
    assert later.cancel()
    assert not later.cancel()
    assert MessageEvent.objects.get(kind="cancelled").message_id == later.id
    assert OutboxMessage.objects.get().message_id == due.id


def test_a_published_message_does_not_fail_its_sender_when_the_trail_does(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = use_bus(vhost.url)
    queue = wire.queue(bus.names.group("billing"))

    def away(rows: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr("koan_django.messaging.events.record", away)
    with listening(OrderPlaced, group="billing"):
        assert OrderPlaced(1).send_to("billing").state == "published"
    assert numbers_in(wire, queue) == [1]


def test_of_many_messages_those_that_can_travel_are_sent_and_the_error_says_so(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), running():
        with pytest.raises(UnroutableError, match=r"reaches nobody .*Of the 2 messages"):
            send_many([OrderPlaced(1), StockMoved("nobody", 2)])
        wait_until(lambda: MessageEvent.objects.filter(kind="handled").count() == 1, what="the first to be handled")
    assert not OutboxMessage.objects.exists()
    assert bus.alias == "main"
