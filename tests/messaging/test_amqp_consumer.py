"""Consuming a real broker that fails, refuses, and carries what strangers publish."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError

from koan_django.core import PermanentError
from koan_django.core.health import Finding
from koan_django.inbox.models import InboxEntry
from koan_django.messaging import send_many
from koan_django.messaging.buses.amqp import link as links
from koan_django.messaging.buses.amqp import watchdog
from koan_django.messaging.buses.amqp.consumer import AmqpConsumer
from koan_django.messaging.handling import burial
from koan_django.messaging.models import DeadLetter, MessageEvent, OutboxMessage
from koan_django.messaging.ordering.lines import Lane
from koan_django.messaging.worker.runner import BusRunner
from koan_django.testing import override_koan, static_secrets
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.wire import Wire, wired
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again soon."""
    monkeypatch.setattr("koan_django.messaging.handling.consumer.MIN_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr("koan_django.messaging.handling.consumer.MAX_BACKOFF_SECONDS", 0.3)
    monkeypatch.setattr("koan_django.messaging.buses.amqp.publisher.MIN_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr("koan_django.messaging.buses.amqp.publisher.MAX_BACKOFF_SECONDS", 0.3)


def effect(message: OrderPlaced) -> None:
    """A row that can be written once."""
    InboxEntry.objects.create(
        fingerprint=f"effect-{message.number}", handler="effect", key="", state="processed", claim=""
    )


def effects() -> set[int]:
    found = InboxEntry.objects.filter(handler="effect").values_list("fingerprint", flat=True)
    return {int(fingerprint.removeprefix("effect-")) for fingerprint in found}


def finding(runner: BusRunner) -> Finding:
    return runner.consumers[0].finding()


def says(runner: BusRunner, text: str, status: str = "unhealthy") -> Callable[[], bool]:
    """Whether the consumer's health holds ``text``."""
    return lambda: text in finding(runner).message and finding(runner).status == status


def recovers(runner: BusRunner) -> None:
    wait_until(lambda: finding(runner).status == "healthy", 20, "the consumer to recover")


def settled(count: int) -> Callable[[], bool]:
    return lambda: MessageEvent.objects.filter(kind="handled").count() >= count


# faults of the network and the broker


def test_connections_that_are_cut_while_messages_flow_cost_nothing(
    use_bus: UseBus, proxy: Proxy, through: str, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(through)
    with listening(OrderPlaced, effect, group="billing"), running() as runner:
        for start in range(0, 300, 50):
            send_many([OrderPlaced(number) for number in range(start, start + 50)])
            proxy.cut()
        wait_until(settled(300), 60, "all to be handled")
        recovers(runner)
        wait_until(lambda: wire.depth(bus.names.group("billing")) == 0, what="the queue to be empty")
    assert effects() == set(range(300))
    assert not DeadLetter.objects.exists()
    assert not OutboxMessage.objects.exists()


@pytest.mark.long
def test_a_broker_that_is_stopped_and_started_three_times_is_consumed_again_each_time(
    use_bus: UseBus, own_rabbitmq: RabbitMQ
) -> None:
    """Ten times, with a Celery worker, it is ``make soak AREA=restarts``."""
    with own_rabbitmq.vhost() as vhost:
        use_bus(vhost.url)
        with listening(OrderPlaced, effect, group="billing"), running() as runner:
            for number in range(0, 60, 20):
                _stop_and_start(own_rabbitmq, runner, number)
    assert effects() == set(range(60))
    assert MessageEvent.objects.filter(kind="handled").count() == 60
    assert not DeadLetter.objects.exists()


def _stop_and_start(rabbitmq: RabbitMQ, runner: BusRunner, number: int) -> None:
    """Send ten messages while it is up and ten while it is down."""
    send_many([OrderPlaced(each) for each in range(number, number + 10)])
    rabbitmq.control("stop_app")
    try:
        wait_until(says(runner, "cannot be reached"), 20, "the consumer to say so")
        send_many([OrderPlaced(each) for each in range(number + 10, number + 20)])
        assert OutboxMessage.objects.exists()
    finally:
        rabbitmq.control("start_app")
    wait_until(settled(number + 20), 60, "all to be handled")
    recovers(runner)


def test_a_broker_that_falls_silent_while_it_is_asked_is_given_up(
    use_bus: UseBus, proxy: Proxy, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "REPLY_SECONDS", 0.5)
    monkeypatch.setattr(links, "CONNECT_SECONDS", 0.5)
    use_bus(through)
    with listening(OrderPlaced, effect, group="billing"), running() as runner:
        proxy.pause()
        proxy.cut()  # it connects again, and nobody answers
        wait_until(lambda: finding(runner).status == "unhealthy", 20, "the consumer to give up")
        proxy.resume()
        proxy.cut()
        recovers(runner)
        OrderPlaced(1).send()
        wait_until(settled(1), 20, "the message to be handled")


def test_a_drain_does_not_wait_for_a_broker_that_is_away(use_bus: UseBus, proxy: Proxy, through: str) -> None:
    use_bus(through)
    with listening(OrderPlaced, lambda message: time.sleep(0.5), group="billing") as arrived, running() as runner:
        OrderPlaced(1).send()
        wait_until(lambda: arrived, what="the message")
        proxy.shut()
        proxy.cut()
        began = time.monotonic()
        runner.drain()
        wait_until(lambda: not runner.is_busy, what="the drain to end")
        assert time.monotonic() - began < 3


def test_a_consumer_that_starts_while_the_broker_is_down_consumes_when_it_comes(
    use_bus: UseBus, proxy: Proxy, through: str
) -> None:
    use_bus(through)
    proxy.shut()
    with listening(OrderPlaced, effect, group="billing"), running(consuming=False) as runner:
        wait_until(says(runner, "cannot be reached"), what="the consumer to say so")
        assert OrderPlaced(1).send().state == "accepted"
        proxy.open()
        recovers(runner)
        wait_until(settled(1), 20, "the message to be handled")
    assert not OutboxMessage.objects.exists()


# what the broker refuses


def test_a_queue_that_exists_with_other_arguments_is_named_and_tried_again(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    queue = wire.queue(bus.names.group("billing"))  # not a quorum queue
    with listening(OrderPlaced, effect, group="billing"), running(consuming=False) as runner:
        wait_until(says(runner, "PRECONDITION_FAILED"), what="the consumer to say so")
        message = finding(runner).message
        assert queue in message
        assert "the bus 'main' is not as it is wanted on its broker" in message
        assert "`koan_topology plan` shows it" in message
        wire.channel.queue_delete(queue)
        recovers(runner)
        OrderPlaced(1).send()
        wait_until(settled(1), what="the message to be handled")


def test_one_bus_that_cannot_be_consumed_holds_up_no_other(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    buses = {
        "main": {"URL": vhost.url, "PREFIX": "twice"},
        "second": {"URL": vhost.url, "PREFIX": "fine"},
        "third": {"URL": "database://", "POLL_INTERVAL": 0.01},
    }
    queue = wire.queue("twice.billing")
    with (
        override_koan(MESSAGING={"BUSES": buses}),
        listening(OrderPlaced, group="billing"),
        listening(OrderPlaced, group="billing", bus="second") as second,
        listening(OrderPlaced, group="billing", bus="third") as third,
        running(consuming=False) as runner,
    ):
        wait_until(says(runner, "is not as it is wanted"), 20, "the consumer to say so")
        wait_until(lambda: all(each.consuming for each in runner.consumers[1:]), 20, "the others to consume")
        for bus in ("second", "third"):
            OrderPlaced(1).send(bus=bus)
        wait_until(lambda: second and third, 20, "the other buses to go on")
        assert finding(runner).status == "unhealthy"
        wire.channel.queue_delete(queue)
        recovers(runner)


def test_a_user_who_may_not_declare_is_told_so_and_tried_again(
    use_bus: UseBus, rabbitmq: RabbitMQ, vhost: Vhost
) -> None:
    name = f"limited-{vhost.name}"
    rabbitmq.api("PUT", f"users/{name}", {"password": "hunter2-secret", "tags": ""})
    try:
        rabbitmq.api("PUT", f"permissions/{vhost.name}/{name}", {"configure": "^$", "write": ".*", "read": ".*"})
        use_bus(vhost.url.replace("guest:guest@", f"{name}:hunter2-secret@"))
        with listening(OrderPlaced, effect, group="billing"), running(consuming=False) as runner:
            wait_until(says(runner, "ACCESS_REFUSED"), what="the consumer to say so")
            assert "hunter2" not in finding(runner).message
            rabbitmq.api("PUT", f"permissions/{vhost.name}/{name}", {"configure": ".*", "write": ".*", "read": ".*"})
            recovers(runner)
    finally:
        rabbitmq.api("DELETE", f"users/{name}")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda url: url.replace("guest:guest@", "guest:wrong-one@"), "ACCESS_REFUSED"),
        (lambda url: url.rpartition("/")[0] + "/no-such-vhost", "no-such-vhost"),
        (lambda url: "amqp://guest:guest@localhost:{{secret:env:PORT_OF_TEST}}/", "the URL cannot be read"),
        (lambda url: "amqp://guest:guest@no-such-host.invalid/", "no-such-host.invalid"),
    ],
)
def test_an_address_that_leads_nowhere_is_said_without_its_password(
    use_bus: UseBus, vhost: Vhost, change: Callable[[str], str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT_OF_TEST", "port")
    use_bus(change(vhost.url))
    with listening(OrderPlaced, effect, group="billing"), running(consuming=False) as runner:
        wait_until(says(runner, expected), 20, "the consumer to say so")
        message = finding(runner).message
        assert "cannot be reached" in message
        assert "guest" not in message.replace("user 'guest'", "")
        assert "wrong-one" not in message
        receipt = OrderPlaced(1).send()  # nothing is refused for it
    assert receipt.state == "accepted"


def test_a_secret_that_is_not_there_is_named_and_looked_up_again(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url.replace("guest:guest@", "guest:{{secret:broker-password}}@"))
    handling = listening(OrderPlaced, effect, group="billing")
    with static_secrets({}) as secrets, handling, running(consuming=False) as runner:
        wait_until(says(runner, "broker-password"), what="the consumer to say so")
        secrets.set("broker-password", "guest")
        recovers(runner)
        OrderPlaced(1).send()
        wait_until(settled(1), what="the message to be handled")


# a broker that no longer serves a consumer


def once_in_the_loop(monkeypatch: pytest.MonkeyPatch, todo: list[Callable[[AmqpConsumer], None]]) -> None:
    """Have the consuming thread itself do something to its connection; it leaves ``todo`` when it is done."""
    keep = AmqpConsumer.keep

    def kept(self: AmqpConsumer) -> None:
        if todo:
            todo[0](self)
            todo.pop()
        keep(self)

    monkeypatch.setattr(AmqpConsumer, "keep", kept)


def test_a_queue_that_is_deleted_under_its_consumer_is_declared_again(
    use_bus: UseBus, vhost: Vhost, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, effect, group="billing"), running() as runner:
        wire.channel.queue_delete(bus.names.group("billing"))
        wait_until(lambda: "the broker cancelled the consumer of the queue" in caplog.text, 20, "the log")
        recovers(runner)
        OrderPlaced(1).send()
        wait_until(settled(1), 20, "the message to be handled")


@pytest.mark.parametrize("others", [False, True])
def test_a_consumer_that_the_broker_no_longer_serves_connects_again(
    use_bus: UseBus,
    vhost: Vhost,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    others: bool,
) -> None:
    """The connection is up, heartbeats come, and the broker does not know the consumer any more."""
    monkeypatch.setattr(watchdog, "PERIOD_SECONDS", 0.2)
    bus = use_bus(vhost.url)
    queue = bus.names.group("billing")
    with listening(OrderPlaced, effect, group="billing"), running() as runner:
        recovers(runner)
        if others:  # somebody else consumes, and has enough
            wire.channel.basic_qos(0, 1, False)
            wire.channel.basic_consume(queue, callback=lambda _message: None)
        todo = [lambda consumer: consumer._channels["billing"].basic_cancel(consumer._tags["billing"])]
        once_in_the_loop(monkeypatch, todo)
        wait_until(lambda: not todo, 20, "the broker to forget the consumer")
        expected = "nothing arrives from the queue" if others else "it knows no consumer of it"
        send_many([OrderPlaced(number) for number in range(10)])
        wait_until(lambda: expected in caplog.text, 20, "the watchdog to notice")
        recovers(runner)
        wait_until(settled(9 if others else 10), 20, "the messages to be handled")
    assert not DeadLetter.objects.exists()


def test_a_partition_that_the_broker_no_longer_serves_is_consumed_again(
    use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "PERIOD_SECONDS", 0.2)
    bus = use_bus(vhost.url, PARTITIONS=1)
    with listening(StockMoved, group="stock") as arrived, running() as runner:
        lane = Lane("stock", 0)
        wait_until(lambda: lane in runner.consumers[0].lines, 20, "the partition to be taken")
        todo = [lambda consumer: consumer._channels[lane].basic_cancel(consumer._tags[lane])]
        once_in_the_loop(monkeypatch, todo)
        queue = bus.names.partition(*lane)
        wait_until(lambda: f"the broker does not serve the queue '{queue}'" in caplog.text, 20, "it to be noticed")
        recovers(runner)
        send_many([StockMoved("one", count) for count in range(5)])
        wait_until(lambda: len(arrived) == 5, 20, "the messages to be handled")
    assert [message.count for message, _ in arrived] == list(range(5))


def test_a_partition_of_which_somebody_else_is_the_active_consumer_is_waited_for(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "PERIOD_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "LOOKS_IN_TURNS", 1000)
    bus = use_bus(vhost.url, PARTITIONS=1)
    queue, looks = bus.names.partition("stock", 0), Counter[str]()
    look = watchdog.Watchdog._look

    def counted(self: watchdog.Watchdog, queue: str, window: Any) -> None:
        look(self, queue, window)
        looks[queue] += 1

    with listening(StockMoved, group="stock") as arrived:
        with running():
            pass  # the queues are declared
        wire.channel.basic_qos(0, 1, False)
        wire.channel.basic_consume(queue, callback=lambda _message: None, consumer_tag="frozen")
        send_many([StockMoved("one", count) for count in range(5)])
        monkeypatch.setattr(watchdog.Watchdog, "_look", counted)
        with running() as runner:
            wait_until(lambda: looks[queue] >= 5, 20, "the watchdog to look")
            assert finding(runner).status == "healthy"
            assert "is not consumed" not in caplog.text
            monkeypatch.setattr(watchdog, "LOOKS_IN_TURNS", 6)  # it may be so for a while, and not for ever
            wait_until(lambda: f"nothing arrives from the queue '{queue}'" in caplog.text, 20, "it to be noticed")
            wire.channel.close()
            wait_until(lambda: len(arrived) == 5, 20, "its turn to come")
    assert [message.count for message, _ in arrived] == list(range(5))


@contextmanager
def acknowledged_within(rabbitmq: RabbitMQ, milliseconds: int) -> Iterator[None]:
    """Channels that are opened now are closed when an acknowledgement takes longer."""

    def limit(timeout: int, look_every: int) -> None:
        values = {"consumer_timeout": timeout, "channel_tick_interval": look_every}
        said = rabbitmq.control(
            "eval", ", ".join(f"application:set_env(rabbit, {name}, {value})" for name, value in values.items()) + "."
        )
        assert said.strip() == "ok"

    limit(milliseconds, 500)
    try:
        yield
    finally:
        limit(1_800_000, 60_000)  # the broker's defaults


@pytest.mark.long
def test_a_handler_that_the_broker_does_not_wait_for_is_handled_once_and_the_log_says_what_to_set(
    use_bus: UseBus, own_rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def slow(message: OrderPlaced) -> None:
        go_on.wait(60)
        effect(message)

    with own_rabbitmq.vhost() as vhost, acknowledged_within(own_rabbitmq, 1500), wired(vhost.url) as wire:
        bus = use_bus(vhost.url)
        with listening(OrderPlaced, slow, group="billing", atomic=False) as arrived, running(4) as runner:
            OrderPlaced(1).send()
            wait_until(lambda: "took messages back that are still being handled" in caplog.text, 30, "the log")
            recovers(runner)
            go_on.set()
            wait_until(settled(1), 30, "the message to be handled")
            wait_until(lambda: wire.depth(bus.names.group("billing")) == 0, 30, "the queue to be empty")
    assert "a handler of billing takes longer than the broker's consumer_timeout allows" in caplog.text
    assert "Set consumer_timeout in rabbitmq.conf above what the longest handler takes" in caplog.text
    assert effects() == {1}
    assert len(arrived) == 1
    assert MessageEvent.objects.filter(kind="handled").count() == 1
    assert not DeadLetter.objects.exists()


# retries and dead letters that cannot be published


def test_a_retry_that_cannot_be_published_waits_unacknowledged_and_holds_up_no_other(
    use_bus: UseBus, proxy: Proxy, through: str, wire: Wire
) -> None:
    bus = use_bus(through)
    broken = [True]

    def fail(message: OrderPlaced) -> None:
        if message.number == 1 and broken:
            raise ConnectionError("the ledger is away")

    with listening(OrderPlaced, fail, group="billing") as arrived, running() as runner:
        queue = bus.names.group("billing")
        proxy.shut()  # the consumer is connected, the publisher is not yet
        wire.publish(queue, b'{"number": 1}', type="order.placed", message_id="1")
        wait_until(says(runner, "was not published", "degraded"), what="the consumer to say so")
        wire.publish(queue, b'{"number": 2}', type="order.placed", message_id="2")
        wait_until(settled(1), what="another message to be handled meanwhile")
        proxy.open()
        wait_until(DeadLetter.objects.exists, 20, "the last attempt")
        recovers(runner)
    assert [(message.number, context.attempt) for message, context in arrived] == [(1, 1), (2, 1), (1, 2), (1, 3)]
    assert wire.depth(queue) == 0


def test_a_bucket_that_somebody_deleted_is_declared_again(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    failures = [ConnectionError("once")]

    def fail_once(message: OrderPlaced) -> None:
        if failures:
            wire.channel.queue_delete(bus.names.retry(bus.options.retry.steps()[0]))
            raise failures.pop()

    with listening(OrderPlaced, fail_once, group="billing"), running():
        OrderPlaced(1).send()
        wait_until(settled(1), 20, "the message to be handled after all")


def test_a_dead_letter_whose_headers_leave_no_room_is_kept_without_them(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)

    def refuse(message: OrderPlaced) -> None:
        raise PermanentError("no")

    with listening(OrderPlaced, refuse, group="billing"), running():
        headers = {f"x-{number}": "y" * 10_000 for number in range(12)}
        wire.publish(bus.names.group("billing"), b'{"number": 1}', type="order.placed", application_headers=headers)
        wait_until(DeadLetter.objects.exists, 20, "the dead letter")
    dead = DeadLetter.objects.get()
    assert (dead.reason, bytes(dead.body)) == ("permanent", b'{"number": 1}')


def test_dead_letters_wait_for_a_database_that_is_away_and_consuming_goes_on(
    use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koan_django.messaging.buses.amqp.bridge.PAUSE_SECONDS", 0.2)
    write, away = burial._write, [True]

    def failing(bus: str, dead: Any) -> None:
        if away:
            raise OperationalError("the server closed the connection")
        write(bus, dead)

    monkeypatch.setattr(burial, "_write", failing)
    use_bus(vhost.url)

    def refuse(message: OrderPlaced) -> None:
        if message.number < 3:
            raise PermanentError("no")

    with listening(OrderPlaced, refuse, group="billing"), running() as runner:
        send_many([OrderPlaced(number) for number in range(3)])
        wait_until(says(runner, "cannot be written", "degraded"), what="the consumer to say so")
        OrderPlaced(3).send()
        wait_until(settled(1), what="another message to be handled meanwhile")
        away.clear()
        wait_until(lambda: DeadLetter.objects.count() == 3, what="the dead letters")
        recovers(runner)


def test_a_dead_letter_that_cannot_be_written_holds_up_no_other(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = burial._write

    def failing(bus: str, dead: Any) -> None:
        if any(delivery.envelope.id == "poison" for delivery, _ in dead):
            raise ValueError("this one never")
        write(bus, dead)

    monkeypatch.setattr(burial, "_write", failing)
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, effect, group="billing"):
        with running():
            pass  # declares the queues
        for identifier in ("a", "poison", "b"):
            wire.publish(bus.names.dead("billing"), b"{}", message_id=identifier, type="order.placed")
        with running() as runner:
            wait_until(lambda: DeadLetter.objects.count() == 2, what="the others")
            wait_until(says(runner, "this one never", "degraded"), what="the consumer to say so")
    assert set(DeadLetter.objects.values_list("message_id", "reason")) == {("a", "broker"), ("b", "broker")}
    wait_until(lambda: wire.depth(bus.names.dead("billing")) == 1, what="it to stand in the queue, not lost")


# what strangers publish


def test_messages_without_an_id_are_all_handled_however_alike(
    use_bus: UseBus, proxy: Proxy, through: str, wire: Wire
) -> None:
    """Their ids are not made of delivery tags, which begin anew with each connection."""
    bus = use_bus(through)
    with listening(OrderPlaced, group="billing") as arrived, running() as runner:
        for turn in range(1, 4):
            for _ in range(3):
                wire.publish(bus.names.group("billing"), b'{"number": 1}', type="order.placed")
            wait_until(lambda: len(arrived) >= 3 * turn, what="three more")  # noqa: B023
            proxy.cut()
            recovers(runner)
    assert len({context.id for _, context in arrived}) >= 9


@pytest.mark.parametrize(
    ("key", "properties"),
    [
        ("order.placed.p", {}),
        ("order.placed.p7", {"message_id": "x" * 255}),
        (
            "order.placed.p",
            {"application_headers": {"koan-version": "nonsense", "koan-attempt": None, "n": {"a": [1]}}},
        ),
        ("order.placed.p", {"application_headers": {"koan-attempt": 2**40, "koan-tenant": "t" * 500}}),
        ("order.placed.p", {"application_headers": {"nul": "a\x00b", "koan-correlation": "c" * 300}, "priority": 255}),
        ("order.placed.p", {"content_encoding": "utf-16", "message_id": "a\x00b"}),
    ],
)
def test_strange_properties_are_put_right(
    use_bus: UseBus, vhost: Vhost, wire: Wire, key: str, properties: dict[str, Any]
) -> None:
    from amqp.basic_message import Message

    bus = use_bus(vhost.url)
    body = '{"number": 7}'.encode(properties.get("content_encoding", "utf-8"))
    with listening(OrderPlaced, group="billing") as arrived, running():
        wire.channel.basic_publish(Message(body, **properties), bus.names.exchange, key)
        wait_until(settled(1), what="the message to be handled")
    assert [message.number for message, _ in arrived] == [7]


def test_an_unreadable_message_of_a_stranger_is_a_dead_letter(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    strange = {
        "message_id": "a\x00b",
        "type": "order.placed",
        "application_headers": {"k\x00": "v\x00", "koan-tenant": "t" * 90},
    }
    with listening(OrderPlaced, group="billing") as arrived, running():
        wire.publish(bus.names.group("billing"), b'{"number": "\x00\xff', **strange)
        wire.publish(bus.names.group("billing"), json.dumps({"number": 1}).encode(), type="order.placed")
        wait_until(lambda: DeadLetter.objects.exists() and arrived, what="the dead letter and the message")
    dead = DeadLetter.objects.get()
    assert dead.message_id.startswith("a?b-")
    assert (dead.reason, bytes(dead.body), dead.headers["k?"]) == ("unreadable", b'{"number": "\x00\xff', "v?")


def test_bytes_that_are_no_text_in_a_header_do_not_stop_the_bus(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing") as arrived, running():
        headers = {"bytes": b"\xff\xfe", "koan-correlation": b"\xff"}
        wire.publish(bus.names.group("billing"), b'{"number": 1}', type="order.placed", application_headers=headers)
        wire.publish(bus.names.group("billing"), b'{"number": 2}', type="order.placed")
        wait_until(settled(2), what="both to be handled")
    assert sorted(message.number for message, _ in arrived) == [1, 2]


#: A timestamp of a header in milliseconds, as programs write that take it for their own.
MILLISECONDS = (b"T" + struct.pack(">Q", 946684800), b"T" + struct.pack(">Q", 1_700_000_000_000))


def test_headers_that_cannot_be_decoded_stop_neither_a_group_nor_its_dead_letters(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    headers = {"at": datetime(2000, 1, 1)}  # as the client wants it
    with listening(OrderPlaced, group="billing") as arrived, running():
        for queue in (bus.names.group("billing"), bus.names.dead("billing")):
            for number in (1, 2):
                body = b'{"number": %d}' % number
                told = {"type": "order.placed", "message_id": f"strange-{number}", "application_headers": headers}
                wire.publish_raw(queue, body, MILLISECONDS, **told)
            wire.publish(queue, b'{"number": 3}', type="order.placed", message_id="plain")
        wait_until(lambda: DeadLetter.objects.count() == 3 and len(arrived) == 3, what="all of both")
    assert sorted(message.number for message, _ in arrived) == [1, 2, 3]
    assert {context.id for _, context in arrived} == {"strange-1", "strange-2", "plain"}  # the rest could be read


def test_dead_letters_of_a_stranger_who_uses_an_id_again_are_all_kept(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), running():
        for word in (b"A", b"B", b"C"):
            wire.publish(bus.names.group("billing"), b'{"number": "%s"}' % word, type="order.placed", message_id="7")
        wait_until(lambda: DeadLetter.objects.count() == 3, what="three dead letters")
    assert {bytes(row.body)[12:13] for row in DeadLetter.objects.all()} == {b"A", b"B", b"C"}


def test_a_message_that_was_dead_lettered_twice_is_one_row(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    """As when the row was committed and its acknowledgement lost."""
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), running():
        for _ in range(3):
            wire.publish(bus.names.dead("billing"), b"{}", message_id="same", type="order.placed")
        wire.publish(bus.names.dead("billing"), b"{}", message_id="other", type="order.placed")
        wait_until(lambda: DeadLetter.objects.filter(message_id="other").exists(), what="the dead letters")
    assert DeadLetter.objects.filter(message_id="same").count() == 1


def test_nobody_waits_while_there_is_work_and_room_for_it(
    use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each group hands over once in a turn; a pool with room for more gets it in the next, and not in half a second."""
    use_bus(vhost.url)
    together = threading.Barrier(8)
    slept: list[float] = []
    wait = links.Link.wait

    def watched(link: links.Link, seconds: float) -> None:
        consumer = threading.current_thread()
        if isinstance(consumer, AmqpConsumer) and seconds and consumer._has_work and consumer._has_room():
            slept.append(seconds)
        wait(link, seconds)

    def at_once(_message: object) -> None:
        together.wait(30)

    with (
        listening(OrderPlaced, at_once, group="billing", atomic=False) as one,
        listening(OrderPlaced, at_once, group="stock", atomic=False) as other,
        running(8),
    ):
        monkeypatch.setattr(links.Link, "wait", watched)
        send_many([OrderPlaced(number) for number in range(4)])
        wait_until(lambda: len(one) == len(other) == 4, 30, "all of them")
    assert slept == []
